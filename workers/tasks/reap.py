"""Take back the work of workers that died, and send lost messages again. The tables say what is to be done."""

from datetime import timedelta

from sqlalchemy import func, select, update

from audit_service import dispatch
from audit_service.db.handles import WriteSession
from audit_service.db.tables import EventRow, RunRow, ShardRow
from audit_service.dispatch import Task
from audit_service.domain.lifecycle import ACTIVE, ShardState
from audit_service.settings import get_settings
from workers.runtime import Runtime, runtime
from workers.tasks.advance import pending, step
from workers.tasks.base import fail, task

ATTEMPTS = 3
"""A shard that has cost so many workers their life ends its run."""


@task(Task.REAP)
def reap() -> None:
    """Look over every run that should be moving."""
    look_after(runtime())


def look_after(worker: Runtime) -> None:
    """Free dead workers' shards, end runs whose shards kill, and ask again for what nobody was heard of."""
    with worker.database.writing() as session:
        poisoned = _take_back(session)
        quiet = _quiet(session)
    for run_id in poisoned:
        fail(
            worker.of(RunRow, run_id),
            run_id,
            reason=f"A worker died {ATTEMPTS} times over the same shard, most likely for want of memory.\n"
            "→ Give the worker more memory or trace fewer pairs in a shard, then resume the run.",
        )
    for run_id in quiet:
        own = worker.of(RunRow, run_id)
        step(own, run_id)
        with own.database.writing() as session:
            for key in pending(session, run_id) if dispatch.waiting(dispatch.GPU) == 0 else []:
                dispatch.enqueue(session, Task.TRACE, run_id, key)


def _take_back(session: WriteSession) -> set[str]:
    """Queue the shards whose heartbeat has stopped again; the runs of those for which that was done too often."""
    lease = timedelta(seconds=get_settings().shard_lease_s)
    freed = session.execute(
        update(ShardRow)
        .where(ShardRow.state == ShardState.RUNNING, ShardRow.heartbeat_at < func.clock_timestamp() - lease)
        .values(state=ShardState.PENDING, worker=None, done=0, running_effect=None)
        .returning(ShardRow.run_id, ShardRow.key, ShardRow.attempts)
    ).all()
    for run_id, key, attempts in freed:
        if attempts < ATTEMPTS:
            dispatch.enqueue(session, Task.TRACE, run_id, key)
    return {run_id for run_id, _, attempts in freed if attempts >= ATTEMPTS}


def _quiet(session: WriteSession) -> list[str]:
    """Runs that should be moving and of which nothing was heard for a lease."""
    lease = timedelta(seconds=get_settings().shard_lease_s)
    heard = select(func.max(EventRow.at)).where(EventRow.run_id == RunRow.id).scalar_subquery()
    query = select(RunRow.id).where(RunRow.state.in_(ACTIVE), heard < func.clock_timestamp() - lease)
    return list(session.scalars(query))
