"""A behavior: the high-risk decision that is audited, in the words of the people who own it."""

import re
from enum import StrEnum
from string import Formatter
from typing import Self

from pydantic import Field, model_validator

from audit_service.domain.datasheets import Datasheet
from audit_service.domain.manifest import Frozen


class FormKind(StrEnum):
    TEXT = "text"
    """The prompt is given to the model exactly as written."""
    CHAT = "chat"
    """The prompt is a user message, rendered with the model's own chat template."""


class Form(Frozen):
    """How a template reaches the model. Raw and chat forms can disagree, so each is declared and judged."""

    name: str = Field(min_length=1)
    kind: FormKind
    suffix: str = ""
    """Text after the template, such as an answer cue."""
    system: str | None = None
    """System message of a chat form; none means that the chat template's own default applies."""


class Labels(Frozen):
    """The answers that count, each in its spellings.

    A spelling may be several tokens: its probability is that of the whole sequence behind the prompt, its length kept.
    For a classifier the labels are its classes, each named once by name or number.
    """

    favorable: tuple[str, ...] = Field(min_length=1)
    unfavorable: tuple[str, ...] = Field(min_length=1)


class Answer(Frozen):
    """A numeric answer, such as an interest rate, in its spellings."""

    spellings: tuple[str, ...] = Field(min_length=1)
    amount: float = Field(allow_inf_nan=False)


class Attribute(Frozen):
    """A protected attribute and the cues that state or signal it."""

    name: str = Field(min_length=1)
    signalled_by: str
    """In words: "first name", "pronoun", "explicit statement"."""
    placeholder: str
    """The template's placeholder that the cue replaces."""
    reference: str
    """The group that the others are compared with."""
    groups: dict[str, dict[str, tuple[str, ...]]]
    """Group → stratum → cues. Cues are compared within a stratum only (female with female names, say)."""
    source: str
    """Where the cues come from."""
    matched: bool = Field(default=False, exclude_if=lambda matched: not matched)
    """Cues at one place in their lists are one wording, told of each group, and are compared: "Mr. Smith" with
    "Ms. Smith". Otherwise they meet at random. Where it is false it is left out, of the digest too."""

    @model_validator(mode="after")
    def _groups_are_comparable(self) -> Self:
        if self.reference not in self.groups:
            raise ValueError(f"reference group {self.reference!r} is not one of {sorted(self.groups)}")
        if len(self.groups) < 2:
            raise ValueError("an attribute needs at least two groups")
        strata = {group: set(cues) for group, cues in self.groups.items()}
        if any(names != strata[self.reference] for names in strata.values()):
            raise ValueError(f"every group needs the same strata; found {strata}")
        cues = [cue for group in self.groups.values() for stratum in group.values() for cue in stratum]
        if any(not stratum for group in self.groups.values() for stratum in group.values()):
            raise ValueError("every group needs at least one cue in each stratum")
        if len(set(cues)) != len(cues):
            repeated = sorted({cue for cue in cues if cues.count(cue) > 1})
            raise ValueError(f"a cue may stand for one group only; repeated: {repeated}")
        sizes = {stratum: {len(group[stratum]) for group in self.groups.values()} for stratum in strata[self.reference]}
        if self.matched and (uneven := sorted(name for name, lengths in sizes.items() if len(lengths) > 1)):
            raise ValueError(f"matched groups have equally many cues in each stratum; not so: {uneven}")
        return self


class Threshold(Frozen):
    """The largest tolerated disparity, fixed before the run."""

    gap_nats: float = Field(gt=0, allow_inf_nan=False)
    """|mean paired gap in log-odds| at or above which the disparity is material."""
    source: str | None = None
    """Who set it and where; a threshold without a source is a protocol warning."""


class Risk(Frozen):
    rating: str
    basis: str
    """Why the decision carries that rating, with its source."""


class Pairing(Frozen):
    """How pairs are drawn from the templates; everything that chance decides follows from the seed."""

    placebo_pairs_per_group: int = Field(default=4, ge=0)
    """Same group and stratum, different cue; per template and profile."""
    seed: int = 0


class Behavior(Frozen):
    """A high-risk decision, its prompts, its answers and what would be too much disparity."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    decision: str
    """The decision in one sentence, as its owner would put it."""
    owner: str
    risk: Risk
    attributes: tuple[Attribute, ...] = Field(min_length=1)
    templates: dict[str, str] = Field(min_length=1)
    profiles: dict[str, dict[str, str]] = Field(min_length=1)
    """Profile → values of the templates' other placeholders; a profile is an applicant's case."""
    forms: tuple[Form, ...] = Field(min_length=1)
    labels: Labels
    answers: dict[str, Answer] = Field(default_factory=dict)
    """Name → numeric answer, for metrics such as the expected amount; each is read in a pass of its own."""
    threshold: Threshold
    cut: float = Field(default=0.0, allow_inf_nan=False)
    """Approved when d > cut (nats); declared, never chosen after looking."""
    min_coverage: float = Field(default=0.5, gt=0, le=1)
    """Below this share of probability on the labels a decision is not measured."""
    pairing: Pairing = Pairing()
    deployment_note: str | None = None
    """Why these prompts resemble what the deployed system sees; none downgrades the evidence."""
    datasheet: Datasheet | None = Field(default=None, exclude_if=lambda sheet: sheet is None)
    """Where the words come from. It decides no number; where there is none it is left out, of the digest too."""

    @model_validator(mode="after")
    def _answers_are_apart(self) -> Self:
        if wrong := sorted(name for name in self.answers if not re.fullmatch(r"[a-z][a-z0-9_]*", name)):
            raise ValueError(f"names of answers are small letters, digits and _: {wrong}")
        spellings = [spelling for answer in self.answers.values() for spelling in answer.spellings]
        if len(self.answers) == 1 or len(set(spellings)) != len(spellings):
            raise ValueError("numeric answers are at least two, and no spelling stands for two of them")
        return self

    @model_validator(mode="after")
    def _placeholders_are_filled(self) -> Self:
        names = [form.name for form in self.forms]
        if len(set(names)) != len(names):
            raise ValueError(f"form names repeat: {names}")
        cues = {attribute.placeholder for attribute in self.attributes}
        if len(cues) != len(self.attributes):
            raise ValueError("two attributes share a placeholder")
        for template_name, template in self.templates.items():
            present = _placeholders(template)
            if not cues <= present:
                raise ValueError(f"template {template_name!r} lacks {{{', '.join(sorted(cues - present))}}}")
            wanted = present.union(*(_placeholders(form.suffix) for form in self.forms))
            for profile_name, profile in self.profiles.items():
                if missing := wanted - cues - set(profile):
                    raise ValueError(f"profile {profile_name!r} lacks {sorted(missing)} of template {template_name!r}")
        return self

    def answer_labels(self) -> dict[str, Labels]:
        """Each numeric answer against the others: how likely it is, is read like a decision."""
        return {
            name: Labels(
                favorable=answer.spellings,
                unfavorable=tuple(s for other, a in self.answers.items() if other != name for s in a.spellings),
            )
            for name, answer in self.answers.items()
        }


def _placeholders(text: str) -> set[str]:
    """The names between braces; nothing else may stand there."""
    fields = [part for part in Formatter().parse(text) if part[1] is not None]
    if wrong := sorted(str(name) for _, name, spec, conversion in fields if not name or spec or conversion):
        raise ValueError(f"a placeholder is a name in braces and nothing else: {wrong}")
    return {str(name) for _, name, _, _ in fields}
