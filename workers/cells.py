"""The stored cells of a run, checked against their digests and put together as tables."""

from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from sqlalchemy import select
from sqlalchemy.orm import undefer

from audit_service.db.handles import ReadSession
from audit_service.db.tables import PairSetRow, RunRow, ShardRow, TraceRow
from audit_service.domain.pairs import PairSet
from audit_service.domain.plan import Plan, Shard
from audit_service.domain.tables import Tables
from audit_service.domain.trace import Control, Measured, Trace
from audit_service.errors import ControlFailed
from audit_service.pairsets import repository as pairsets


@dataclass(frozen=True, slots=True)
class StoredShard:
    """A traced shard as it lies in the database."""

    shard: Shard
    trace: Trace
    measured: Measured
    digest: str
    """As written when it was traced."""

    @property
    def verified(self) -> bool:
        return self.trace.digest == self.digest


@dataclass(frozen=True)
class RunCells:
    """All that was measured in a run, in the plan's order."""

    plan: Plan
    pair_set: PairSet
    shards: tuple[StoredShard, ...]

    @cached_property
    def tables(self) -> Tables:
        return Tables.of(self.plan, self.pair_set, [(stored.shard, stored.trace) for stored in self.shards])

    def controls(self) -> tuple[Control, ...]:
        """Each control with the largest deviation that any shard saw."""
        worst: dict[str, Control] = {}
        for control in chain.from_iterable(stored.measured.controls for stored in self.shards):
            if control.name not in worst or control.measured > worst[control.name].measured:
                worst[control.name] = control
        return tuple(worst.values())


def shard_of(row: ShardRow, plan_digest: str) -> Shard:
    """What the row asks to be measured."""
    return Shard(
        plan_digest=plan_digest,
        kind=row.kind,
        form=row.form,
        direction=row.direction,
        corruption=row.corruption,
        sites=tuple(row.sites),
        pair_ids=tuple(row.pair_ids),
    )


def load(session: ReadSession, run_id: str) -> RunCells:
    """The run's cells as stored; whether they are still those that were written is for the caller to ask."""
    run = session.get_one(RunRow, run_id)
    query = (
        select(ShardRow, TraceRow)
        .join(TraceRow, (TraceRow.run_id == ShardRow.run_id) & (TraceRow.shard_key == ShardRow.key))
        .where(ShardRow.run_id == run_id)
        .order_by(ShardRow.ordinal)
        .options(undefer(TraceRow.payload))
    )
    shards = tuple(
        StoredShard(shard_of(shard, run.plan.digest), Trace(trace.payload), trace.measured, trace.digest)
        for shard, trace in session.execute(query)
    )
    return RunCells(run.plan.content, pairsets.load(session, session.get_one(PairSetRow, run.plan.pair_set_id)), shards)


def require_untouched(cells: RunCells) -> None:
    """Raise ControlFailed if a shard's bytes are not those that were written."""
    if changed := [stored.shard.key for stored in cells.shards if not stored.verified]:
        raise ControlFailed(
            "Stored cells differ from the digest that was written with them.",
            remedy="Restore the database from a backup, or run the plan again.",
            details=[f"shard {key}" for key in changed],
        )
