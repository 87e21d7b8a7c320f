"""What a run needs next. Asked after every step, and again by the reaper: to ask twice changes nothing."""

from sqlalchemy import func, select, update

from audit_service import dispatch
from audit_service.audits import lifecycle
from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.tables import PairSetRow, RunRow, ShardRow
from audit_service.dispatch import Task
from audit_service.domain.lifecycle import RunState, ShardState
from audit_service.domain.plan import Plan, Shard, ShardKind
from audit_service.domain.shards import shards
from audit_service.pairsets import repository as pairsets
from workers.runtime import Runtime, runtime
from workers.tasks.base import task


@task(Task.ADVANCE, of_run=True)
def advance(run_id: str) -> None:
    """Queue what the run's state asks for."""
    step(runtime().of(RunRow, run_id), run_id)


def step(runtime: Runtime, run_id: str) -> None:
    """Cut a new run into shards and queue them; once every shard is traced, ask for the judgement, then the report."""
    with runtime.database.writing() as session:
        run = lifecycle.locked(session, run_id)
        if run.state is RunState.QUEUED:
            queue_shards(session, run)  # before the move: whoever saves a shard locks it before he adds an event
            run = lifecycle.move(session, run_id, RunState.RUNNING, by=runtime.name)
        if run.state is RunState.RUNNING and not unfinished(session, run_id):
            run = lifecycle.move(session, run_id, RunState.JUDGING, by=runtime.name)
        if run.state is RunState.JUDGING:
            dispatch.enqueue(session, Task.JUDGE, run_id)
        elif run.state is RunState.REPORTING:
            dispatch.enqueue(session, Task.REPORT, run_id)


def queue_shards(session: WriteSession, run: RunRow) -> None:
    """Send a message for every shard that nobody has; the shards are cut when there are none."""
    if not session.scalar(select(ShardRow.key).where(ShardRow.run_id == run.id).limit(1)):
        _cut(session, run)
    session.execute(update(ShardRow).where(ShardRow.run_id == run.id).values(attempts=0))
    for key in pending(session, run.id):
        dispatch.enqueue(session, Task.TRACE, run.id, key)


def pending(session: ReadSession, run_id: str) -> list[str]:
    """Keys of the shards that nobody has, in the plan's order."""
    query = select(ShardRow.key).where(ShardRow.run_id == run_id, ShardRow.state == ShardState.PENDING)
    return list(session.scalars(query.order_by(ShardRow.ordinal)))


def unfinished(session: ReadSession, run_id: str) -> int:
    query = select(func.count()).where(ShardRow.run_id == run_id, ShardRow.state != ShardState.DONE)
    return session.scalar(query) or 0


def _cut(session: WriteSession, run: RunRow) -> None:
    plan, pair_set = run.plan.content, pairsets.load(session, session.get_one(PairSetRow, run.plan.pair_set_id))
    for ordinal, shard in enumerate(shards(plan, pair_set)):
        session.add(
            ShardRow(
                run_id=run.id,
                key=shard.key,
                ordinal=ordinal,
                kind=shard.kind,
                form=shard.form,
                direction=shard.direction,
                pair_ids=list(shard.pair_ids),
                total=work_units(plan, shard),
            )
        )
    session.flush()


WHOLE_PASS = 10
"""Patched runs that take as long as a whole one: they pass some of the layers, few tokens and no vocabulary."""


def work_units(plan: Plan, shard: Shard) -> int:
    """How long the shard takes in patched runs, roughly: the measure of its progress and of nothing else."""
    per_pair = 2 * WHOLE_PASS + (len(plan.sites) if shard.kind is ShardKind.EFFECTS else 0)
    return per_pair * len(shard.pair_ids)
