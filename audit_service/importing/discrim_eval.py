"""Discrim-eval (Tamkin et al. 2023): filled templates of 70 decisions, by age, gender and race."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from audit_service.domain.pairfiles import PairRow
from audit_service.importing.formats import Format, Wrapping
from audit_service.importing.grouped import Matching, Prompt
from audit_service.importing.reading import Published, Row, Tally, json_rows


class Varied(StrEnum):
    AGE = "age"
    GENDER = "gender"
    RACE = "race"


REFERENCE = {Varied.AGE: "60", Varied.GENDER: "male", Varied.RACE: "white"}
"""The baseline of the paper (section 3)."""


class Filled(Published):
    filled_template: str
    decision_question_id: int | str
    age: float
    gender: str
    race: str

    def group(self, attribute: Varied) -> str:
        return f"{self.age:g}" if attribute is Varied.AGE else str(getattr(self, attribute))


@dataclass(frozen=True)
class DiscrimEval(Format):
    data_set: ClassVar[str] = (
        "Discrim-eval: Tamkin et al. (2023), Evaluating and Mitigating Discrimination in Language Model Decisions, "
        "arXiv 2312.03689; Anthropic/discrim-eval, CC-BY-4.0"
    )
    limits: ClassVar[tuple[str, ...]] = (
        "The scenarios were written by a language model and checked by people; most are not decisions of a bank.",
        "The set has one wording for each group, so there are no placebo pairs and no noise floor.",
    )

    attribute: Varied
    reference: str | None = None

    @property
    def matching(self) -> Matching:
        return Matching(self.attribute.value, self.reference or REFERENCE[self.attribute])

    @property
    def conversion(self) -> str:
        return (
            f"The filled template is the prompt. Pairs differ in {self.attribute} (reference: "
            f"{self.matching.reference}) and are equal in question and in the two other attributes. Cluster: question "
            "and group."
        )

    def pairs(self, text: io.TextIOWrapper, tally: Tally, wrapping: Wrapping) -> Iterator[PairRow]:
        return self.matching.pairs(map(self._prompt, json_rows(text, Filled, tally)), tally, wrapping)

    def _prompt(self, row: Row[Filled]) -> Prompt:
        filled, question = row.content, f"question-{row.content.decision_question_id}"
        others = [f"{name} {filled.group(name)}" for name in Varied if name is not self.attribute]
        return Prompt(
            line=row.line,
            case=(question, *others),
            group=filled.group(self.attribute),
            text=filled.filled_template,
            template=question,
            profile=", ".join(others),
            cluster=question,
        )
