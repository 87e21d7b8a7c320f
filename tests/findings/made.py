"""What a run found, put into the database without a worker."""

from typing import Any

import numpy as np

from audit_service.db.handles import Database
from audit_service.db.tables import ResultRow, ShardRow, TraceRow, VerdictRow
from audit_service.domain.lifecycle import ShardState
from audit_service.domain.manifest import digest
from audit_service.domain.plan import Direction, Plan, ShardKind
from audit_service.domain.results import Judgement, Outcome, Result, Sentence, Verdict, VerdictValue
from audit_service.domain.trace import EffectCells, Measured, Trace

KEY = "a" * 32
MEASURED = Measured(
    device="cpu", dtype="float32", torch="2", transformers="5", threads=2, attention="eager", controls=()
)


def result(key: str, value: float | None, **changes: Any) -> Result:
    fields: dict[str, Any] = {"key": key, "value": value, "unit": "nats", "method": "mean"}
    return Result(**fields | changes)


def add_findings(database: Database, run_id: str, plan: Plan) -> None:
    """Numbers of two sites, a verdict and one shard's cells, as workers would have left them."""
    site = f"raw.denoise.{plan.sites[1].key}"
    results = (
        result("raw.race.black.gap_nats", 0.25, low=0.1, high=0.4, n=17, p_value=0.01),
        result(f"raw.denoise.{plan.sites[0].key}", 1.0, low=0.5, high=1.5, n=12, p_value=0.02),
        result(f"raw.denoise.{plan.sites[0].key}.normalised", 0.5, unit="ratio"),
        result(f"raw.denoise.{plan.sites[0].key}.p_maxt", 0.04, unit="p"),
        result(site, None, outcome=Outcome.NOT_MEASURED, reason=Sentence(id="reason.not_measured", values={"n": 0})),
    )
    verdict = Verdict(scope="behavior", value=VerdictValue.FAIL, reasons=(Sentence(id="verdict.gap"),))
    judgement = Judgement(verdict=verdict, forms=(verdict,), results=results, protocol=(), controls=())
    trace = Trace.of(cells(plan))
    with database.writing() as session:
        session.add_all(ResultRow.of(run_id, one) for one in results)
        session.add(VerdictRow(run_id=run_id, value=VerdictValue.FAIL, judgement=judgement, digest=digest(judgement)))
        session.add(shard(run_id))
        session.flush()
        session.add(
            TraceRow(run_id=run_id, shard_key=KEY, payload=trace.payload, digest=trace.digest, measured=MEASURED)
        )


def cells(plan: Plan) -> EffectCells:
    patched = np.arange(2 * len(plan.sites), dtype=np.float32).reshape(2, -1)
    return EffectCells(d_clean=np.float32([1, 2]), d_corrupt=np.float32([3, 4]), patched=patched)


def shard(run_id: str) -> ShardRow:
    return ShardRow(
        run_id=run_id,
        key=KEY,
        ordinal=0,
        kind=ShardKind.EFFECTS,
        form="raw",
        direction=Direction.DENOISE,
        pair_ids=["one", "two"],
        state=ShardState.DONE,
        total=1,
    )
