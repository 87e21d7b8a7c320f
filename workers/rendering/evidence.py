"""What a report is made of: one frozen value that a task fills from the database."""

from datetime import datetime

from pydantic import AwareDatetime, Field, JsonValue

from audit_service.domain.approvals import Acceptance, Approval, Decision, Record, Response
from audit_service.domain.chain import sealed
from audit_service.domain.comparison import Comparison, Currency, Deployment, Mitigation
from audit_service.domain.manifest import Frozen, digest
from audit_service.domain.pairs import PairSet
from audit_service.domain.plan import Direction, Plan, ShardKind
from audit_service.domain.results import Judgement, Result, Sentence
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
    entry: dict[str, JsonValue] | None = None
    """The entry as the log exports it: what the digest is made over, with the digest of the entry before."""

    @property
    def holds(self) -> bool:
        """Whether the entry has the digest that is printed, and says what the report says of it."""
        if self.entry is None:
            return True
        content = {name: value for name, value in self.entry.items() if name not in {"previous", "digest"}}
        again = sealed(content, previous=str(self.entry.get("previous")))["digest"]
        told = (self.entry.get("actor"), datetime.fromisoformat(str(self.entry.get("at"))))
        return again == self.entry.get("digest") == self.digest and told == (self.actor, self.at)


class Edition(Frozen):
    """An edition of this report that was issued before: what reviewers of reports name."""

    number: int
    issued_at: AwareDatetime
    digests: dict[str, str]
    """Language → SHA-256 of the PDF."""


class Signing(Frozen):
    """Whose signature the report carries; said in the document before it is put on it."""

    name: str
    """Subject of the certificate."""
    certificate: str
    """SHA-256 of the certificate."""
    self_issued: bool
    """A certificate that vouches for itself, such as a throw-away one: it shows no origin."""
    timestamped: bool


def document_id(*, plan_digest: str, run_id: str) -> str:
    """The name of a run's document."""
    return f"AE-{plan_digest[:6].upper()}-{run_id.replace('-', '')[:8].upper()}"


class Evidence(Frozen):
    """Everything that one report says, and enough to say it again: the views are made of nothing else."""

    run: RunFacts
    plan: Plan
    pair_set: PairSet
    judgement: Judgement
    power: tuple[Sentence, ...] = ()
    """What the design could detect, as it was said when the plan was fixed."""
    cue_tokens: dict[str, int] = Field(default_factory=dict)
    """Cue → tokens of this model's tokenizer, as they stand in the prompt; empty if not recorded."""
    measured: tuple[Measured, ...] = Field(min_length=1)
    shards: tuple[ShardRecord, ...] = Field(min_length=1)
    model_verified: bool
    """The model folder's digest was computed again for the run and equals the plan's."""
    events: tuple[EventRecord, ...] = ()
    editions: tuple[Edition, ...] = ()
    """Editions before this one, oldest first."""
    approvals: tuple[Approval, ...] = ()
    responses: tuple[Response, ...] = ()
    acceptances: tuple[Acceptance, ...] = ()
    """All that were put before a reviewer, whatever was decided."""
    mitigations: tuple[Mitigation, ...] = ()
    comparison: Comparison | None = None
    """With the last accepted run; None if there is none."""
    currency: Currency = Currency()
    signing: Signing | None = None
    """None for a report without a signature."""

    @property
    def document_id(self) -> str:
        """Follows from plan and run, so that the same run has the same document."""
        return document_id(plan_digest=self.plan.digest, run_id=self.run.id)

    @property
    def edition(self) -> int:
        return len(self.editions) + 1

    @property
    def issued_at(self) -> datetime:
        """The moment of the youngest record in it."""
        records: tuple[Approval | Response | Acceptance | Mitigation | Deployment, ...] = (
            *self.approvals,
            *self.responses,
            *self.acceptances,
            *self.mitigations,
            *self.currency.deployments,
        )
        later = [self.currency.superseded.ended_at] if self.currency.superseded else []
        return max([self.run.ended_at, *later, *(record.at for record in records)])

    @property
    def rows(self) -> tuple[Result, ...]:
        """Every number that can be printed: the run's, then those of comparisons with other runs."""
        compared = self.comparison.rows() if self.comparison else ()
        measures = (row for index, one in enumerate(self.mitigations, start=1) for row in one.rows(index))
        return (*self.judgement.results, *compared, *measures)

    def names(self, approval: Approval) -> bool:
        """Whether the digest that a person decided on is one of this run's records."""
        known = {
            Record.PLAN: {self.plan.digest},
            Record.VERDICT: {digest(self.judgement)},
            Record.REPORT: {pdf for edition in self.editions for pdf in edition.digests.values()},
            Record.ACCEPTANCE: {digest(acceptance) for acceptance in self.acceptances},
        }
        return approval.record_digest in known[approval.record]

    def decision_on(self, acceptance: Acceptance) -> Approval | None:
        """What a reviewer decided on it; None if nobody has."""
        signed = digest(acceptance)
        decided = (one for one in self.approvals if one.decision is not Decision.SUBMITTED)
        return next((one for one in decided if one.record_digest == signed), None)

    @property
    def digests_hold(self) -> bool:
        """DG6: every digest of the run is there and matches."""
        return (
            self.model_verified
            and self.pair_set.digest == self.plan.pair_set.digest
            and all(shard.verified for shard in self.shards)
        )
