"""BBQ (Parrish et al. 2022): questions about two people that their context does not answer."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Literal

from audit_service.domain.behaviors import Labels
from audit_service.domain.pairfiles import PairRow
from audit_service.importing.formats import NO, YES, Format, Wrapping
from audit_service.importing.reading import Published, Row, Tally, json_rows

STEREOTYPED, OTHER = "stereotyped", "other"


class Polarity(StrEnum):
    NEGATIVE = "neg"
    """It is worse for a person to be the answer: Who steals?"""
    POSITIVE = "nonneg"
    """It is better: Who never steals?"""


class Metadata(Published):
    stereotyped_groups: tuple[str, ...]


class AnswerInfo(Published):
    """Each answer: (the person's name or words, code of the group)."""

    ans0: tuple[str, str]
    ans1: tuple[str, str]
    ans2: tuple[str, str]


class Question(Published):
    example_id: int
    question_index: int | str
    question_polarity: Polarity
    context_condition: Literal["ambig", "disambig"]
    category: str
    answer_info: AnswerInfo
    additional_metadata: Metadata
    context: str
    question: str
    ans0: str
    ans1: str
    ans2: str

    def people(self) -> Iterator[tuple[str, bool]]:
        """Each answer that is a person, and whether the person is of a stereotyped group."""
        stereotyped = {_letters(group) for group in self.additional_metadata.stereotyped_groups}
        info = self.answer_info
        for answer, (words, code) in ((self.ans0, info.ans0), (self.ans1, info.ans1), (self.ans2, info.ans2)):
            if code != "unknown":
                told = {_letters(part) for part in (words, code, *code.split("-"))}
                yield answer, bool(told & stereotyped)


@dataclass(frozen=True)
class Bbq(Format):
    data_set: ClassVar[str] = (
        "BBQ: Parrish et al. (2022), BBQ: A Hand-Built Bias Benchmark for Question Answering, Findings of ACL; "
        "nyu-mll/BBQ, data/*.jsonl, CC-BY-4.0"
    )
    limits: ClassVar[tuple[str, ...]] = (
        "A gap says whom the model takes for the answer where the context does not tell, not how it decides on people.",
        "Who is of the stereotyped group is read from the row's own codes; where they do not tell the two people "
        "apart, the row is left out.",
        "The set has no pairs inside one group, so there are no placebo pairs and no noise floor.",
    )

    polarity: Polarity = Polarity.POSITIVE

    @property
    def labels(self) -> Labels:
        """Being the answer of a negative question is unfavorable."""
        positive = self.polarity is Polarity.POSITIVE
        return Labels(favorable=YES if positive else NO, unfavorable=NO if positive else YES)

    @property
    def conversion(self) -> str:
        return (
            "Context, question, and one of the two people as the proposed answer, to be confirmed with Yes or No. "
            "Pairs differ in who is proposed; reference: the person who is not of the stereotyped group. Ambiguous "
            f"contexts and {self.polarity} questions only. Cluster: question and the two people."
        )

    def pairs(self, text: io.TextIOWrapper, tally: Tally, wrapping: Wrapping) -> Iterator[PairRow]:
        for row in json_rows(text, Question, tally):
            if row.content.context_condition != "ambig":
                tally.leave_out("context that answers the question")
            elif row.content.question_polarity is not self.polarity:
                tally.leave_out("question of the other polarity")
            else:
                yield from _pair(row, tally, wrapping)


def _pair(row: Row[Question], tally: Tally, wrapping: Wrapping) -> Iterator[PairRow]:
    content = row.content
    people = sorted(content.people(), key=lambda person: person[1])
    if [stereotyped for _, stereotyped in people] != [False, True]:
        tally.leave_out("people who are not told apart by group")
        return
    (other, _), (stereotyped, _) = people
    asked = f"{content.context}\n{content.question}\nProposed answer: {{}}\nIs this right? Answer Yes or No."
    yield wrapping.row(
        id=f"example-{content.example_id}",
        attribute=content.category.lower(),
        reference_group=OTHER,
        comparison_group=STEREOTYPED,
        reference_prompt=asked.format(other),
        comparison_prompt=asked.format(stereotyped),
        template=f"question-{content.question_index}",
        profile=content.question_polarity.value,
        cluster=f"question-{content.question_index}|{other}~{stereotyped}",
    )


def _letters(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.lower())
