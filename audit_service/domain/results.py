"""What the judge hands on: numbers with their bounds, sentences by id, and the verdict that rests on them."""

from enum import StrEnum

from pydantic import Field

from audit_service.domain.manifest import Frozen
from audit_service.domain.trace import Control


class Outcome(StrEnum):
    """Whether there is a number at all. Unknown is a value: never zero, false or missing."""

    MEASURED = "measured"
    NOT_MEASURED = "not_measured"
    """The run has no data for it (low coverage, no such pairs)."""
    UNDEFINED = "undefined"
    """The formula has no value here (a ratio over zero)."""
    REFUSED = "refused"
    """The method forbids to print it (normalised by a denominator whose interval includes 0)."""


class Sentence(Frozen):
    """A statement by catalogue id, so that it can be said in each language from the same numbers."""

    id: str
    """Such as "verdict.gap_below_threshold"; English texts stand in domain/sentences.py."""
    values: dict[str, float | int | str] = Field(default_factory=dict)


class Result(Frozen):
    """One number that may be printed. Its key is unique within a run."""

    key: str
    """Dotted path: form, then what it is: "raw.race.Black.gap_nats", "raw.denoise.attn_out.L12.cue.effect"."""
    outcome: Outcome = Outcome.MEASURED
    value: float | None = Field(default=None, allow_inf_nan=False)
    low: float | None = Field(default=None, allow_inf_nan=False)
    high: float | None = Field(default=None, allow_inf_nan=False)
    unit: str
    """nats, percentage points, share, ratio, count, p, or 1 for a plain number."""
    n: int | None = None
    """Independent units behind the value (clusters)."""
    p_value: float | None = None
    """Raw p; the adjusted one is a result of its own."""
    method: str
    """Estimator and interval in the field's words: "mean; cluster bootstrap BCa 95 %"."""
    reason: Sentence | None = None
    """Why there is no value, or no interval around it."""


class VerdictValue(StrEnum):
    PASS = "pass"  # noqa: S105 - a verdict, not a secret
    CONCERN = "concern"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NOT_MEASURED = "not_measured"


class Verdict(Frozen):
    """The verdict on one scope (a form, or the behavior as a whole) and why."""

    scope: str
    """A form's name, or "behavior"."""
    value: VerdictValue
    reasons: tuple[Sentence, ...] = Field(min_length=1)
    share_unchanged: float | None = None
    """Share of the other declared specifications that give the same verdict; None if there is no other."""
    changed_by: tuple[str, ...] = ()
    """The specifications that give another verdict."""


class Level(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class LintFinding(Frozen):
    """A rule of the protocol that this plan or run does not keep."""

    rule: str
    """Stable id, such as "P003"."""
    level: Level
    sentence: Sentence
    remedy: Sentence


class Judgement(Frozen):
    """Everything the report prints about one run, from one pure function of its cells."""

    verdict: Verdict
    """Of the behavior as a whole: the worst of its forms, unknown never counting as good."""
    forms: tuple[Verdict, ...]
    results: tuple[Result, ...]
    protocol: tuple[LintFinding, ...]
    controls: tuple[Control, ...]
    statements: tuple[Sentence, ...] = ()
    """What was found, in words and in reading order."""
