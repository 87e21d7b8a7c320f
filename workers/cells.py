"""The stored cells of a run, checked against their digests and put together as tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from sqlalchemy import select
from sqlalchemy.orm import undefer

from audit_service.db.handles import ReadSession
from audit_service.db.tables import PairSetRow, RunRow, ShardRow, TraceRow
from audit_service.domain.cells import DecisionTable, EffectTable
from audit_service.domain.pairs import Pair, PairSet
from audit_service.domain.plan import Direction, Plan, ShardKind
from audit_service.domain.trace import Control, Measured, Trace
from audit_service.errors import ControlFailed
from audit_service.pairsets import repository as pairsets


@dataclass(frozen=True, slots=True)
class StoredShard:
    """A traced shard as it lies in the database."""

    shard: ShardRow
    trace: Trace
    measured: Measured
    digest: str
    """As written when it was traced."""

    @property
    def verified(self) -> bool:
        return self.trace.digest == self.digest


@dataclass(frozen=True, slots=True)
class RunCells:
    """All that was measured in a run, in the plan's order."""

    plan: Plan
    pair_set: PairSet
    shards: tuple[StoredShard, ...]

    def decisions(self) -> DecisionTable:
        found = [stored for stored in self.shards if stored.shard.kind is ShardKind.DECISIONS]
        return DecisionTable.of(self._pairs(found), [stored.trace.decisions() for stored in found])

    def effects(self) -> list[EffectTable]:
        """One table for each form and direction of the plan."""
        forms = [form.name for form in self.plan.behavior.forms]
        return [self._effects(form, direction) for form in forms for direction in self.plan.tracing.directions]

    def controls(self) -> tuple[Control, ...]:
        """Each control with the largest deviation that any shard saw."""
        worst: dict[str, Control] = {}
        for control in chain.from_iterable(stored.measured.controls for stored in self.shards):
            if control.name not in worst or control.measured > worst[control.name].measured:
                worst[control.name] = control
        return tuple(worst.values())

    def _effects(self, form: str, direction: Direction) -> EffectTable:
        found = [
            stored
            for stored in self.shards
            if stored.shard.kind is ShardKind.EFFECTS
            and (stored.shard.form, stored.shard.direction) == (form, direction)
        ]
        return EffectTable.of(
            form,
            direction,
            pairs=self._pairs(found),
            sites=self.plan.sites,
            shards=[stored.trace.effects() for stored in found],
        )

    def _pairs(self, shards: Sequence[StoredShard]) -> list[Pair]:
        by_id = {pair.id: pair for pair in self.pair_set.pairs}
        return [by_id[pair_id] for stored in shards for pair_id in stored.shard.pair_ids]


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
        StoredShard(shard, Trace(trace.payload), trace.measured, trace.digest)
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
