"""What a run needs next. Asked after every step, and again by the reaper: to ask twice changes nothing."""

from collections.abc import Iterable

from sqlalchemy import func, select, update

from audit_service import dispatch
from audit_service.audits import lifecycle
from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.tables import PairSetRow, RunRow, ShardRow
from audit_service.dispatch import Task
from audit_service.domain.joint import joint_shards
from audit_service.domain.lifecycle import RunState, ShardState
from audit_service.domain.plan import Plan, Shard, ShardKind
from audit_service.domain.shards import shards
from audit_service.pairsets import repository as pairsets
from workers.cells import load, require_untouched
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
        if run.state is RunState.RUNNING and not unfinished(session, run_id) and not cut_second_stage(session, run):
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


def cut_second_stage(session: WriteSession, run: RunRow) -> bool:
    """Cut and queue the joint shards that follow from the cells, once; true if there is now something to trace."""
    plan = run.plan.content
    if plan.tracing.joint_sites < 2 or session.scalar(
        select(ShardRow.key).where(ShardRow.run_id == run.id, ShardRow.kind == ShardKind.JOINT).limit(1)
    ):
        return False
    cells = load(session, run.id)
    require_untouched(cells)
    _add(session, run, joint_shards(plan, cells.tables.effects), after=len(cells.shards))
    for key in (waiting := pending(session, run.id)):
        dispatch.enqueue(session, Task.TRACE, run.id, key)
    return bool(waiting)


def pending(session: ReadSession, run_id: str) -> list[str]:
    """Keys of the shards that nobody has, in the plan's order."""
    query = select(ShardRow.key).where(ShardRow.run_id == run_id, ShardRow.state == ShardState.PENDING)
    return list(session.scalars(query.order_by(ShardRow.ordinal)))


def unfinished(session: ReadSession, run_id: str) -> int:
    query = select(func.count()).where(ShardRow.run_id == run_id, ShardRow.state != ShardState.DONE)
    return session.scalar(query) or 0


def _cut(session: WriteSession, run: RunRow) -> None:
    plan, pair_set = run.plan.content, pairsets.load(session, session.get_one(PairSetRow, run.plan.pair_set_id))
    _add(session, run, shards(plan, pair_set), after=0)


def _add(session: WriteSession, run: RunRow, wanted: Iterable[Shard], *, after: int) -> None:
    for ordinal, shard in enumerate(wanted, start=after):
        session.add(
            ShardRow(
                run_id=run.id,
                key=shard.key,
                ordinal=ordinal,
                kind=shard.kind,
                form=shard.form,
                direction=shard.direction,
                corruption=shard.corruption,
                sites=list(shard.sites),
                pair_ids=list(shard.pair_ids),
                total=work_units(run.plan.content, shard),
            )
        )
    session.flush()


WHOLE_PASS = 10
"""Patched runs that take as long as a whole one: they pass some of the layers, few tokens and no vocabulary."""


def work_units(plan: Plan, shard: Shard) -> int:
    """How long the shard takes in patched runs, roughly: the measure of its progress and of nothing else."""
    patched = {
        ShardKind.DECISIONS: 0,
        ShardKind.EFFECTS: len(plan.sites),
        ShardKind.JOINT: len(shard.sites) * (len(shard.sites) - 1) // 2,
    }
    return plan.tracing.draws(shard.corruption) * (2 * WHOLE_PASS + patched[shard.kind]) * len(shard.pair_ids)
