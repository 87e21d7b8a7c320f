"""What two sites do together, in rows and in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from audit_service.domain.cells import RESOLUTION, DecisionTable, Mask
from audit_service.domain.contrasts import units
from audit_service.domain.interplay import super_additivity
from audit_service.domain.joint import JointTable, site_pairs
from audit_service.domain.plan import Direction, Plan
from audit_service.domain.results import Result, Sentence
from audit_service.domain.rows import plain, row
from audit_service.domain.sentences import say
from audit_service.domain.sites import Site
from audit_service.domain.uncertainty import (
    Array,
    Clusters,
    Estimate,
    fewest_clusters,
    generator,
    most_cautious,
    sign_flip,
)

RELEVANT = 0.1
"""An excess below this share of what the two sites do together is not put in words."""


class Together(StrEnum):
    """How two sites work together, from both directions: the sentence that says it."""

    OR_LIKE = "effects.joint_or"
    """Each can stand in for the other: together less than the sum when restored, more when taken away."""
    AND_LIKE = "effects.joint_and"
    """Neither does it alone: together more than the sum when restored, less when taken away."""
    SERIES = "effects.joint_series"
    """Less than the sum both ways: one acts through the other, or they say the same."""


@dataclass(frozen=True, slots=True)
class Interaction:
    """Two sites in one direction."""

    sites: tuple[Site, Site]
    direction: Direction
    excess: Estimate
    """Effect together minus the sum of the effects alone, in nats."""
    together: float
    """Mean effect of both at once, in nats."""
    p_value: float | None
    p_maxt: float | None
    clusters: int

    def sign(self, alpha: float) -> int:
        """1 where they do more together than alone, -1 where less, 0 where neither is shown."""
        value = self.excess.value or 0.0
        if self.p_maxt is None or self.p_maxt >= alpha or abs(value) < RELEVANT * abs(self.together):
            return 0
        return int(np.sign(value) * (np.sign(self.together) or 1))


def interactions(plan: Plan, table: JointTable, decisions: DecisionTable) -> list[Interaction]:
    """Each two sites of one form and direction over the measured pairs; none without a measured pair."""
    judging, kept = plan.judging, _measured(plan, table, decisions)
    single = table.alone.select(kept)
    if not single.pairs:
        return []
    recipient = single.recipient.astype(np.float64)[:, None]
    alone, together = single.patched - recipient, table.together[kept] - recipient
    found = site_pairs(single.sites)
    parts = np.array([[single.sites.index(site) for site in both] for both in found])
    excess = together - alone[:, parts].sum(axis=2)
    excess[:, np.abs(excess).max(axis=0) < RESOLUTION] = 0
    clusters = Clusters.of([pair.cluster for pair in single.pairs])
    stream = (single.form, single.direction, "joint")
    test = None
    if clusters.count >= fewest_clusters(judging.alpha):
        rng = generator(judging.seed, *stream)
        by = units(single.pairs, alpha=judging.alpha)
        test = most_cautious([sign_flip(unit.sums(excess), rng=rng, resamples=judging.resamples) for unit in by])
    return [
        Interaction(
            both,
            single.direction,
            _excess(
                together[:, number], alone[:, parts[number]], clusters, plan, name=".".join([*stream, str(number)])
            ),
            float(together[:, number].mean()),
            None if test is None else float(test.raw[number]),
            None if test is None else float(test.adjusted[number]),
            clusters.count,
        )
        for number, both in enumerate(found)
    ]


def _measured(plan: Plan, table: JointTable, decisions: DecisionTable) -> Mask:
    cells = np.column_stack([table.alone.recipient, table.alone.patched, table.together])
    measured = decisions.measured_of(table.alone.pairs, min_coverage=plan.behavior.min_coverage)
    return np.asarray(np.isfinite(cells).all(axis=1) & measured)


def _excess(joint: Array, parts: Array, clusters: Clusters, plan: Plan, *, name: str) -> Estimate:
    judging = plan.judging
    return super_additivity(
        joint, parts, clusters, alpha=judging.alpha, resamples=judging.resamples, seed=judging.seed, name=name
    )


def joint_rows(form: str, found: Sequence[Interaction]) -> Iterator[Result]:
    for one in found:
        key = f"{form}.{one.direction}.joint.{one.sites[0].key}+{one.sites[1].key}"
        yield row(key, one.excess, unit="nats", n=one.clusters, p_value=one.p_value)
        method = "effect of both at once; pairs that took no part in choosing the sites"
        yield plain(f"{key}.together", one.together, unit="nats", method=method, n=one.clusters)
        method = "sign flips of clusters and cue pairs; max-T over the pairs of sites"
        yield plain(f"{key}.p_maxt", one.p_maxt, unit="p", method=method)


def joint_statements(form: str, found: Sequence[Interaction], *, alpha: float) -> Iterator[Sentence]:
    """The pairs of sites of which both directions, traced and shown, say how they work together."""
    by_sites: dict[tuple[Site, Site], dict[Direction, Interaction]] = {}
    for one in found:
        by_sites.setdefault(one.sites, {})[one.direction] = one
    for sites, ways in by_sites.items():
        kind = _kind([ways[way].sign(alpha) if way in ways else 0 for way in (Direction.DENOISE, Direction.NOISE)])
        if kind is not None:
            restored, taken = (ways[way].excess.value or 0.0 for way in (Direction.DENOISE, Direction.NOISE))
            yield say(
                kind,
                form=form,
                site=sites[0].key,
                others=sites[1].key,
                restored=restored,
                taken=taken,
            )


def _kind(signs: Sequence[int]) -> Together | None:
    kinds = {(-1, 1): Together.OR_LIKE, (1, -1): Together.AND_LIKE, (-1, -1): Together.SERIES}
    denoise, noise = signs
    return kinds.get((denoise, noise))
