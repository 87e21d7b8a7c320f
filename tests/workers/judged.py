"""A run with invented cells and their real verdict, as workers would have left it."""

from sqlalchemy import update

from audit_service.audits import lifecycle
from audit_service.db.tables import PairSetRow, RunRow, ShardRow, TraceRow, VerdictRow
from audit_service.domain.lifecycle import RunState, ShardState
from audit_service.domain.manifest import digest
from audit_service.pairsets import repository as pairsets
from tests.workers.rendering.audits import MEASURED, traced
from workers.runtime import Runtime


def judge_invented(worker: Runtime, run_id: str, *, gap: float = 0.35) -> None:
    """Give a running run cells with about that gap and their verdict; it is about to be reported then."""
    with worker.database.writing() as session:
        run = session.get_one(RunRow, run_id)
        pair_set = pairsets.load(session, session.get_one(PairSetRow, run.plan.pair_set_id))
        judgement, traces = traced(run.plan.content, pair_set, gap=gap)
        session.execute(update(ShardRow).where(ShardRow.run_id == run_id).values(state=ShardState.DONE))
        session.add_all(
            TraceRow(run_id=run_id, shard_key=shard.key, payload=trace.payload, digest=trace.digest, measured=MEASURED)
            for shard, trace in traces.items()
        )
        session.add(
            VerdictRow(run_id=run_id, value=judgement.verdict.value, judgement=judgement, digest=digest(judgement))
        )
        for state in (RunState.JUDGING, RunState.REPORTING):
            lifecycle.move(session, run_id, state, by="worker:test")
