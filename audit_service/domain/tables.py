"""From the traces of a run's shards to the tables that are judged."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from audit_service.domain.cells import DecisionTable, EffectTable
from audit_service.domain.joint import JointTable
from audit_service.domain.pairs import Pair, PairSet
from audit_service.domain.plan import Corruption, Direction, Plan, Shard, ShardKind
from audit_service.domain.trace import EffectCells, Trace


@dataclass(frozen=True, slots=True)
class Tables:
    """A run's cells in the plan's order."""

    decisions: DecisionTable
    effects: tuple[EffectTable, ...]
    """For each form, direction and corruption one table of single layers, and one for each width of windows."""
    joint: tuple[JointTable, ...]

    @classmethod
    def of(cls, plan: Plan, pair_set: PairSet, traced: Sequence[tuple[Shard, Trace]]) -> "Tables":
        """The tables of all shards that were traced, in their order; what was not traced is an empty table."""
        every = _Traced(traced, {pair.id: pair for pair in pair_set.pairs})
        decided = every.only(ShardKind.DECISIONS)
        forms = [form.name for form in plan.behavior.forms]
        whole = [_effects(plan, every, form, *trace) for form in forms for trace in plan.traces]
        widths = sorted(set(plan.tracing.windows))
        return cls(
            DecisionTable.of(decided.pairs, [trace.decisions() for _, trace in decided.shards]),
            tuple(table.of_width(width) for table in whole for width in widths),
            tuple(_joint(whole, every)),
        )


class _Traced(NamedTuple):
    """Shards that were traced, and the pairs that they name."""

    shards: Sequence[tuple[Shard, Trace]]
    known: Mapping[str, Pair]

    def only(self, kind: ShardKind, *place: str) -> "_Traced":
        """Those of one kind, and of one form, direction and corruption if they are given."""
        return self._replace(
            shards=[
                (shard, trace)
                for shard, trace in self.shards
                if shard.kind is kind and (shard.form, shard.direction, shard.corruption)[: len(place)] == place
            ]
        )

    @property
    def pairs(self) -> list[Pair]:
        return [self.known[name] for shard, _ in self.shards for name in shard.pair_ids]

    @property
    def effects(self) -> list[EffectCells]:
        return [trace.effects() for _, trace in self.shards]


def _effects(plan: Plan, every: _Traced, form: str, direction: Direction, corruption: Corruption) -> EffectTable:
    ours = every.only(ShardKind.EFFECTS, form, direction, corruption)
    return EffectTable.of(
        form, direction, pairs=ours.pairs, sites=plan.sites, shards=ours.effects, corruption=corruption
    )


def _joint(tables: Sequence[EffectTable], every: _Traced) -> Iterator[JointTable]:
    """Beside the single sites of the same traces; none where no two sites lead."""
    for table in tables:
        ours = every.only(ShardKind.JOINT, table.form, table.direction, table.corruption)
        if ours.shards:
            keys = ours.shards[0][0].sites
            sites = [site for key in keys for site in table.sites if site.key == key]
            yield JointTable.of(sites, table, pairs=ours.pairs, shards=ours.effects)
