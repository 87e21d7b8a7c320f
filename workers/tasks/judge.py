"""Judge a run: load its cells, judge them, save every number as a row."""

from sqlalchemy import select, update

from audit_service.audits import lifecycle
from audit_service.db.tables import ResultRow, RevalidationRow, RunRow, VerdictRow
from audit_service.dispatch import Task
from audit_service.domain.drift import Drift
from audit_service.domain.judgement import judge as judged
from audit_service.domain.lifecycle import RunState
from audit_service.domain.manifest import digest
from audit_service.domain.results import Judgement
from workers.cells import load, require_untouched
from workers.drift import drift_of
from workers.runtime import Runtime, runtime
from workers.tasks.advance import step
from workers.tasks.base import alone, task


@task(Task.JUDGE, of_run=True)
def judge(run_id: str) -> None:
    """Turn the run's cells into its verdict, unless it has one or somebody is at it."""
    worker = runtime().of(RunRow, run_id)
    with alone(worker, run_id) as session:
        if session is None or session.get_one(RunRow, run_id).state is not RunState.JUDGING:
            return
        cells = load(session, run_id)
        require_untouched(cells)
        tables = cells.tables
        judgement = judged(cells.plan, tables.decisions, tables.effects, cells.controls(), joint=tables.joint)
        _save(worker, run_id, judgement, drift_of(session, run_id, cells))
    step(worker, run_id)


def _save(worker: Runtime, run_id: str, judgement: Judgement, drift: Drift | None) -> None:
    with worker.database.writing() as session:
        if lifecycle.locked(session, run_id).state is not RunState.JUDGING:
            return  # cancelled meanwhile
        if not session.scalar(select(VerdictRow.id).where(VerdictRow.run_id == run_id)):
            value = judgement.verdict.value
            session.add(VerdictRow(run_id=run_id, value=value, judgement=judgement, digest=digest(judgement)))
            session.add_all(ResultRow.of(run_id, result) for result in judgement.results)
            if drift is not None:
                session.add_all(ResultRow.of(run_id, result) for result in drift.results)
                session.execute(update(RevalidationRow).where(RevalidationRow.run_id == run_id).values(drift=drift))
        lifecycle.move(session, run_id, RunState.REPORTING, by=worker.name)
