"""From the traces of a run's shards to the tables that are judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audit_service.domain.cells import DecisionTable, EffectTable
from audit_service.domain.joint import JointTable
from audit_service.domain.pairs import Pair, PairSet
from audit_service.domain.plan import Corruption, Direction, Plan, Shard, ShardKind
from audit_service.domain.trace import Trace


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
        pairs = {pair.id: pair for pair in pair_set.pairs}
        decided = [(shard, trace) for shard, trace in traced if shard.kind is ShardKind.DECISIONS]
        decisions = DecisionTable.of(_pairs(decided, pairs), [trace.decisions() for _, trace in decided])
        forms = [form.name for form in plan.behavior.forms]
        whole = [_effects(plan, form, *trace, traced=traced, pairs=pairs) for form in forms for trace in plan.traces]
        widths = sorted(set(plan.tracing.windows))
        return cls(
            decisions,
            tuple(table.of_width(width) for table in whole for width in widths),
            tuple(
                _joint(form, direction, table, traced=traced, pairs=pairs)
                for table in whole
                if table.corruption is Corruption.PAIR
                for form, direction in [(table.form, table.direction)]
                if any(_is_joint(shard, form, direction) for shard, _ in traced)
            ),
        )


def _effects(
    plan: Plan,
    form: str,
    direction: Direction,
    corruption: Corruption,
    *,
    traced: Sequence[tuple[Shard, Trace]],
    pairs: Mapping[str, Pair],
) -> EffectTable:
    wanted = (ShardKind.EFFECTS, form, direction, corruption)
    ours = [one for one in traced if (one[0].kind, one[0].form, one[0].direction, one[0].corruption) == wanted]
    return EffectTable.of(
        form,
        direction,
        pairs=_pairs(ours, pairs),
        sites=plan.sites,
        shards=[trace.effects() for _, trace in ours],
        corruption=corruption,
    )


def _joint(
    form: str,
    direction: Direction,
    alone: EffectTable,
    *,
    traced: Sequence[tuple[Shard, Trace]],
    pairs: Mapping[str, Pair],
) -> JointTable:
    ours = [one for one in traced if _is_joint(one[0], form, direction)]
    keys = ours[0][0].sites
    sites = tuple(site for key in keys for site in alone.sites if site.key == key)
    return JointTable.of(sites, alone, pairs=_pairs(ours, pairs), shards=[trace.effects() for _, trace in ours])


def _is_joint(shard: Shard, form: str, direction: Direction) -> bool:
    return (shard.kind, shard.form, shard.direction) == (ShardKind.JOINT, form, direction)


def _pairs(traced: Sequence[tuple[Shard, Trace]], pairs: Mapping[str, Pair]) -> list[Pair]:
    return [pairs[name] for shard, _ in traced for name in shard.pair_ids]
