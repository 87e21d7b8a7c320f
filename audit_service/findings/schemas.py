"""What a run found, as it goes out."""

from datetime import datetime

from audit_service.border.schemas import Answer
from audit_service.domain.plan import Direction, ShardKind
from audit_service.domain.results import Judgement, Outcome, Sentence, VerdictValue
from audit_service.domain.sites import SiteKind
from audit_service.domain.trace import Measured


class VerdictRecord(Answer):
    id: str
    run_id: str
    value: VerdictValue
    digest: str
    """SHA-256 of the judgement's canonical JSON."""
    judgement: Judgement
    created_at: datetime


class ResultRecord(Answer):
    """A number that may be printed. The report names it by this id."""

    id: int
    run_id: str
    key: str
    """Dotted path, form first; unique within the run."""
    outcome: Outcome
    value: float | None
    low: float | None
    high: float | None
    unit: str
    n: int | None
    """Independent units behind the value (clusters)."""
    p_value: float | None
    method: str
    reason: Sentence | None
    """Why there is no value."""


class Lineage(ResultRecord):
    """A number with all that it rests on."""

    plan_digest: str
    model_digest: str
    pair_set_digest: str
    behavior_version_id: str


class SiteEffect(Answer):
    """What exchanging one site's activation does to the decision."""

    site: str
    kind: SiteKind
    layer: int
    head: int | None
    segment: str
    result_id: int
    outcome: Outcome
    value: float | None
    """Mean of patched minus unpatched, in nats."""
    low: float | None
    high: float | None
    n: int | None
    p_value: float | None
    p_maxt: float | None
    """Adjusted over all sites; only this one may name a site as involved."""
    normalised: float | None
    """Ratio of means to the total effect; null where it is refused."""


class TraceRecord(Answer):
    """The measured cells of a shard, without the cells."""

    shard_key: str
    kind: ShardKind
    form: str
    direction: Direction | None
    digest: str
    """SHA-256 of the cells' safetensors bytes."""
    measured: Measured
