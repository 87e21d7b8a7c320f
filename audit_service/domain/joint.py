"""Leading sites exchanged two by two: how they work together (METHOD.md section 4; Heimersheim & Nanda 2024).

The rule is fixed by the plan, before anything is seen: the sites that lead in one half of the traced clusters are
exchanged together in the other half, and only that half is judged. Choosing so biases nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Self

import numpy as np

from audit_service.domain.cells import Cells, EffectTable
from audit_service.domain.pairs import Pair, PairKind
from audit_service.domain.plan import Corruption, Direction, Plan, Shard, ShardKind
from audit_service.domain.sites import WRITERS, Site, SiteKind
from audit_service.domain.trace import EffectCells
from audit_service.domain.uncertainty import Array, generator


def site_pairs(sites: Sequence[Site]) -> tuple[tuple[Site, Site], ...]:
    """The sets that are exchanged at once, in their order."""
    return tuple(combinations(sites, 2))


@dataclass(frozen=True, slots=True)
class JointTable:
    """Pairs that took no part in choosing the sites: each site alone, and each two at once."""

    alone: EffectTable
    """Of the sites that lead."""
    together: Cells
    """[pair, set] patched decision value, sets as in ``site_pairs``."""

    @classmethod
    def of(
        cls, sites: Sequence[Site], alone: EffectTable, *, pairs: Sequence[Pair], shards: Sequence[EffectCells]
    ) -> Self:
        """The joint shards' cells beside those of the single sites on the same pairs."""
        rows = {pair.id: row for row, pair in enumerate(alone.pairs)}
        ours = alone.take(np.array([rows[pair.id] for pair in pairs], dtype=np.intp))
        chosen = ours.at([alone.sites.index(site) for site in sites])
        return cls(chosen, np.concatenate([shard.patched for shard in shards]))


def joint_shards(plan: Plan, tables: Sequence[EffectTable]) -> Iterator[Shard]:
    """The shards of the second stage of a run, from the effect tables of the first; none where no two sites lead."""
    main = {(table.form, table.direction): table for table in tables if table.is_main}
    for form in (form.name for form in plan.behavior.forms):
        ours = [main[form, direction] for direction in Direction if (form, direction) in main]
        if plan.tracing.joint_sites < 2 or not ours:
            continue
        choosing, judged = _halves(ours[0].pairs, seed=plan.tracing.seed)
        sites = leading_parts(ours, choosing, count=plan.tracing.joint_sites)
        if len(sites) < 2:
            continue
        for start in range(0, len(judged), plan.pairs_per_shard):
            for table in ours:
                yield Shard(
                    plan_digest=plan.digest,
                    kind=ShardKind.JOINT,
                    form=form,
                    direction=table.direction,
                    corruption=Corruption.PAIR,
                    sites=tuple(site.key for site in sites),
                    pair_ids=tuple(pair.id for pair in judged[start : start + plan.pairs_per_shard]),
                )


def _halves(pairs: Sequence[Pair], *, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Contrast pairs that choose, and those that are judged: no cue pair is in both."""
    contrast = [pair for pair in pairs if pair.kind is PairKind.CONTRAST]
    cues = sorted({(pair.reference_cue, pair.comparison_cue) for pair in contrast})
    order = generator(seed, "joint").permutation(len(cues))
    choosing = {cues[index] for index in order[: len(cues) // 2]}
    return (
        [pair for pair in contrast if (pair.reference_cue, pair.comparison_cue) in choosing],
        [pair for pair in contrast if (pair.reference_cue, pair.comparison_cue) not in choosing],
    )


def leading_parts(tables: Sequence[EffectTable], choosing: Sequence[Pair], *, count: int) -> tuple[Site, ...]:
    """The parts with the largest mean effects over the choosing pairs in any direction; the tables have equal sites.

    Heads stand for their layer's attention. A site without any effect does not lead.
    """
    sites, wanted = tables[0].sites, {pair.id for pair in choosing}
    has_heads = any(site.kind is SiteKind.Z for site in sites)
    kinds = WRITERS - {SiteKind.ATTN_OUT} if has_heads else WRITERS
    candidates = [index for index, site in enumerate(sites) if site.kind in kinds]
    sizes = np.max([_sizes(table, wanted)[candidates] for table in tables], axis=0, initial=0)
    order = [index for index in np.argsort(-sizes, kind="stable") if sizes[index] > 0]
    return tuple(sites[candidates[index]] for index in order[:count])


def _sizes(table: EffectTable, wanted: set[str]) -> Array:
    """[site] |mean effect| over the wanted pairs; 0 without any."""
    ours = np.array([pair.id in wanted for pair in table.pairs], dtype=bool)
    chosen = table.select(table.finite() & ours).resolved()
    # Rounded, so that machines whose last bits differ choose the same sites.
    totals = np.abs(chosen.effects.sum(axis=0, dtype=np.float64))
    return np.asarray(np.round(totals / max(len(chosen.pairs), 1), 6))
