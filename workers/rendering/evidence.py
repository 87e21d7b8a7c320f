"""What a report is made of: one frozen value that a task fills from the database."""

from datetime import datetime

from pydantic import AwareDatetime, Field

from audit_service.domain.manifest import Frozen
from audit_service.domain.pairs import PairSet
from audit_service.domain.plan import Direction, Plan, ShardKind
from audit_service.domain.results import Judgement
from audit_service.domain.trace import Measured


class RunFacts(Frozen):
    """Who ran what and when. The document's date is the run's end: rendering never reads the clock."""

    id: str
    requested_by: str
    planned_at: AwareDatetime
    """When the plan was frozen, before any number was seen."""
    started_at: AwareDatetime
    ended_at: AwareDatetime
    service_version: str


class ShardRecord(Frozen):
    """A unit of measured cells and the digest of its stored bytes."""

    key: str
    kind: ShardKind
    form: str
    direction: Direction | None
    pairs: int
    digest: str
    """SHA-256 of the stored payload."""
    verified: bool
    """The digest was computed again over the stored bytes when the report was made, and is equal."""


class EventRecord(Frozen):
    """An entry of the append-only log."""

    at: AwareDatetime
    actor: str
    what: str
    digest: str | None = None
    """Hash of the entry, chained to the one before."""


class Approval(Frozen):
    """A decision of a named person on a named record."""

    at: AwareDatetime
    person: str
    role: str
    decision: str
    record_digest: str
    comment: str = ""


class Signing(Frozen):
    """Whose signature the report carries; said in the document before it is put on it."""

    name: str
    """Subject of the certificate."""
    certificate: str
    """SHA-256 of the certificate."""
    self_issued: bool
    """A certificate that vouches for itself, such as a throw-away one: it shows no origin."""
    timestamped: bool


class Evidence(Frozen):
    """Everything that one report says, and enough to say it again: the views are made of nothing else."""

    run: RunFacts
    plan: Plan
    pair_set: PairSet
    judgement: Judgement
    cue_tokens: dict[str, int] = Field(default_factory=dict)
    """Cue → tokens of this model's tokenizer, as they stand in the prompt; empty if not recorded."""
    measured: tuple[Measured, ...] = Field(min_length=1)
    shards: tuple[ShardRecord, ...] = Field(min_length=1)
    model_verified: bool
    """The model folder's digest was computed again for the run and equals the plan's."""
    events: tuple[EventRecord, ...] = ()
    approvals: tuple[Approval, ...] = ()
    signing: Signing | None = None
    """None for a report without a signature."""

    @property
    def document_id(self) -> str:
        """Follows from plan and run, so that the same run has the same document."""
        return f"AE-{self.plan.digest[:6].upper()}-{self.run.id.replace('-', '')[:8].upper()}"

    @property
    def issued_at(self) -> datetime:
        return self.run.ended_at

    @property
    def digests_hold(self) -> bool:
        """DG6: every digest of the run is there and matches."""
        return (
            self.model_verified
            and self.pair_set.digest == self.plan.pair_set.digest
            and all(shard.verified for shard in self.shards)
        )
