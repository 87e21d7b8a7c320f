"""Plans and runs as they come in and go out."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Self

from pydantic import Field, field_validator

from audit_service.border.schemas import Answer, Uuid
from audit_service.domain.budget import Budget, Price
from audit_service.domain.cost import Cost
from audit_service.domain.forecast import Forecast
from audit_service.domain.lifecycle import EventKind, RunState
from audit_service.domain.manifest import Frozen
from audit_service.domain.plan import Judging, Plan, Tracing
from audit_service.domain.results import Level, LintFinding, Sentence
from audit_service.domain.sentences import english


class PlanCreate(Frozen):
    """What to audit and how. All of it is frozen under a digest before the first number is seen."""

    model_version_id: Uuid
    behavior_version_id: Uuid
    pair_set_id: Uuid
    tracing: Tracing = Tracing()
    judging: Judging = Field(examples=[{"delta_nats": 0.1}])
    metric_ids: tuple[Uuid, ...] | None = None
    """Registered metrics; without them log-odds, probability, log-probability and the divergences."""
    budget: Budget | None = None
    """How much may be computed. What it does not pay for is left out of the tracing, coarse looks before fine ones, and
    is on record in the plan's `scope`. Minutes can be asked for once a worker has run the model."""


class Offer(Answer):
    """One scope that a budget can pay for, with all that comes before it."""

    adds: str
    """What it patches more than the one before."""
    sites: int
    """In all, exchanged in every traced pair."""
    tracing: Tracing
    cost: Cost
    forecasts: tuple[Forecast, ...]
    """Time and memory on each kind of worker that has run the model."""
    price: Price
    taken: bool
    """Whether the budget pays for it; without a budget all are."""


class Offers(Answer):
    """What could be patched, from the coarsest look to all that is asked for, and what that takes."""

    risk: str
    """The behavior's rating."""
    pairs: int
    forms: tuple[str, ...]
    offers: tuple[Offer, ...]


class Rule(Answer):
    """A rule of the protocol that is not kept, or not evaluated yet."""

    rule: str
    """Stable id, such as "P003"."""
    level: Level
    sentence: str
    remedy: str

    @classmethod
    def said(cls, finding: LintFinding) -> Self:
        return cls(
            rule=finding.rule, level=finding.level, sentence=english(finding.sentence), remedy=english(finding.remedy)
        )


class PlanRecord(Answer):
    id: str
    digest: str
    """SHA-256 of the plan's canonical JSON; every number leads back to it."""
    cost: Cost
    forecasts: tuple[Forecast, ...]
    """Time and memory on each kind of worker that has run the model. Empty before the first has: preview the pairs, or
    start the run, and a worker calibrates itself."""
    protocol: tuple[Rule, ...]
    """Rules of the protocol that the plan does not keep. With an error among them no run is started."""
    power: tuple[str, ...]
    """What gap the design can detect, and how many names a smaller one takes."""
    exploratory: bool
    """True: its predecessor over this model and behavior was run first, so results could be seen."""
    predecessor: str | None
    model_version_id: str
    behavior_version_id: str
    pair_set_id: str
    content: Plan
    created_at: datetime

    @field_validator("protocol", mode="before")
    @classmethod
    def _rules_in_words(cls, found: Iterable[object]) -> list[object]:
        return [Rule.said(one) if isinstance(one, LintFinding) else one for one in found]

    @field_validator("power", mode="before")
    @classmethod
    def _power_in_words(cls, found: Iterable[object]) -> list[object]:
        return [english(one) if isinstance(one, Sentence) else one for one in found]


class RunCreate(Frozen):
    """Which plan to execute."""

    plan_id: Uuid


class Run(Answer):
    id: str
    plan_id: str
    state: RunState
    reason: str | None
    """What failed and what to do, in a run that failed."""
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class Progress(Answer):
    """How far a run is, in units of work that take about as long as each other."""

    done: int
    total: int
    """0 until the run has been cut into shards."""
    shards_done: int
    shards: int
    running_effect: float | None
    """The effect seen last, in nats; it guides the eye and is no result."""
    seconds_left: float | None
    """At the pace so far and with as many workers as are busy now; null before there is a pace."""


class RunDetail(Run):
    plan_digest: str
    progress: Progress


class Event(Answer):
    """Something that happened to a run."""

    seq: int
    """Send the last one seen as `Last-Event-ID` to go on after it."""
    kind: EventKind
    actor: str
    """Who caused it."""
    data: dict[str, Any]
    at: datetime


class Shard(Answer):
    """A unit of queue work."""

    key: str
    ordinal: int
    kind: str
    form: str
    direction: str | None
    pair_ids: list[str]
    state: str
    attempts: int
    done: int
    total: int
    worker: str | None
    started_at: datetime | None
    ended_at: datetime | None
