"""How sites work together: backups, joint necessity, and more than the sum of the parts (METHOD.md section 4).

Denoising asks whether a site suffices, noising whether it is needed (Heimersheim & Nanda 2024, section 3). A site that
suffices without being needed has a backup: OR-like. One that is needed without sufficing works with others: AND-like.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from audit_service.domain.cells import EffectTable, Mask
from audit_service.domain.uncertainty import Array, Clusters, Estimate, Resampled, generator


class Part(StrEnum):
    """What the two directions say about a site."""

    OR_LIKE = "or_like"
    """Suffices more than it is needed: something else can stand in for it."""
    AND_LIKE = "and_like"
    """Is needed more than it suffices: it works together with something else."""
    EVEN = "even"
    """No asymmetry is shown."""


CONSTANT = 0.1
"""A difference that every cluster shows alike has no interval; above this share of the total effect it is told."""


@dataclass(frozen=True, slots=True)
class Asymmetry:
    """One site in both directions, as shares of the total effect."""

    site: int
    """Index into the tables' sites."""
    sufficient: float
    needed: float
    difference: Estimate
    """Sufficient minus needed, with the sign turned for a site that counteracts (both shares negative)."""

    @property
    def part(self) -> Part:
        if self.difference.issue == "reason.no_variation" and abs(self.sufficient - self.needed) > CONSTANT:
            return Part.OR_LIKE if (self.difference.value or 0) > 0 else Part.AND_LIKE
        if self.difference.low is None or self.difference.high is None:
            return Part.EVEN
        if self.difference.low > 0:
            return Part.OR_LIKE
        return Part.AND_LIKE if self.difference.high < 0 else Part.EVEN


def asymmetries(
    denoise: EffectTable, noise: EffectTable, sites: list[int], *, alpha: float, resamples: int, seed: int
) -> list[Asymmetry]:
    """The named sites in both directions, over the pairs that both tables have; both hold measured contrast pairs.

    Ask only where the total effect is known to differ from 0: the shares divide by it.
    """
    ids = {pair.id for pair in denoise.pairs} & {pair.id for pair in noise.pairs}
    one, other = (table.select(_among(table, ids)) for table in (denoise, noise))
    order = {pair.id: index for index, pair in enumerate(other.pairs)}
    matched = [order[pair.id] for pair in one.pairs]
    clusters = Clusters.of([pair.cluster for pair in one.pairs])
    columns = {"total": one.total}
    for site in sites:
        columns[f"sufficient {site}"] = one.effects[:, site].astype(np.float64)
        columns[f"needed {site}"] = -other.effects[matched, site].astype(np.float64)
    sample = Resampled.of(columns, clusters, rng=generator(seed, one.form, "asymmetry"), resamples=resamples)
    return [_asymmetry(site, sample, alpha=alpha) for site in sites]


def _asymmetry(site: int, sample: Resampled, *, alpha: float) -> Asymmetry:
    total = sample.total("total")
    sufficient, needed = sample.total(f"sufficient {site}") / total, sample.total(f"needed {site}") / total
    way = 1.0 if sufficient + needed >= 0 else -1.0
    difference = sample.estimate(
        lambda sums: way * (sums[f"sufficient {site}"] - sums[f"needed {site}"]) / sums["total"],
        alpha=alpha,
        what="share by denoising minus share by noising",
    )
    return Asymmetry(site, sufficient, needed, difference)


def _among(table: EffectTable, ids: set[str]) -> Mask:
    return np.array([pair.id in ids for pair in table.pairs], dtype=bool)


def super_additivity(
    joint: Array, parts: Array, clusters: Clusters, *, alpha: float, resamples: int, seed: int, name: str
) -> Estimate:
    """Mean effect of sites patched together [pair] minus the sum of their effects alone [pair, part], in nats.

    Denoising: above 0 means that they work together (AND-like), below 0 that each stands in for the other (OR-like).
    """
    columns = {"n": np.ones(len(joint)), "excess": joint - parts.sum(axis=1)}
    sample = Resampled.of(columns, clusters, rng=generator(seed, "joint", name), resamples=resamples)
    return sample.estimate(lambda sums: sums["excess"] / sums["n"], alpha=alpha, what="joint effect minus sum of parts")
