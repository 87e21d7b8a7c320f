"""Effects of sites: what putting one activation into the other run does to the decision (METHOD.md section 4).

The whole pair x site matrix goes in. Raw effects are in nats, patched minus the unpatched recipient; normalised
effects are ratios of means over the total effect in the same direction, never means of ratios.
"""

from dataclasses import dataclass

import numpy as np

from audit_service.domain.cells import EffectTable
from audit_service.domain.contrasts import units
from audit_service.domain.uncertainty import (
    Array,
    Bounds,
    Clusters,
    Estimate,
    FlipTest,
    Resampled,
    constant,
    excludes_zero,
    fewest_clusters,
    generator,
    intervals,
    most_cautious,
    resample,
    sign_flip,
)

RANKED = 1000
"""Rankings are compared over this many resamples at most; each costs a sort of all sites."""


@dataclass(frozen=True, slots=True)
class Columns:
    """One estimate per site."""

    value: Array
    """[site]"""
    bounds: Bounds | None
    """None when there are too few clusters for intervals."""


@dataclass(frozen=True, slots=True)
class SiteEffects:
    """The effects of one form and direction over the traced contrast pairs."""

    table: EffectTable
    """The measured pairs."""
    clusters: int
    total: Estimate
    """Mean total effect in this direction: the denominator of normalised effects, in nats."""
    raw: Columns
    normalised: Columns | None
    """None when refused: the interval of the denominator includes 0 or does not exist."""
    test: FlipTest | None
    draws: Array
    """[resample, site] mean effects of some resamples of clusters, for ranks and overlaps."""
    sums: Array
    """[cluster, site] effects"""
    sizes: Array
    """[cluster] pairs"""


def site_effects(table: EffectTable, *, alpha: float, resamples: int, seed: int) -> SiteEffects:
    """Raw and normalised effect of each site with intervals, and the sign-flip test over all of them.

    ``table`` holds measured contrast pairs of one form and direction, at least one.
    """
    clusters = Clusters.of([pair.cluster for pair in table.pairs])
    stream = (table.form, table.direction)
    total = _total(table, clusters, alpha=alpha, resamples=resamples, rng=generator(seed, *stream, "total"))
    ones, whole = np.ones(len(table.pairs)), table.total
    sums = np.column_stack([clusters.sums(table.effects), clusters.sums(np.column_stack([ones, whole]))])
    drawn = resample(sums, rng=generator(seed, *stream, "sites"), resamples=resamples)
    enough = clusters.count >= fewest_clusters(alpha)
    raw = _ratios(sums, drawn, denominator=-2, alpha=alpha, clusters=clusters.effective if enough else None)
    test = _test(table, alpha=alpha, resamples=resamples, rng=generator(seed, *stream, "signs")) if enough else None
    return SiteEffects(
        table,
        clusters.count,
        total,
        raw,
        _ratios(sums, drawn, denominator=-1, alpha=alpha, clusters=clusters.effective)
        if excludes_zero(total)
        else None,
        test,
        drawn[:RANKED, :-2] / drawn[:RANKED, -2:-1],
        sums[:, :-2],
        sums[:, -2],
    )


def _test(table: EffectTable, *, alpha: float, resamples: int, rng: np.random.Generator) -> FlipTest:
    """Sign flips of clusters, and of whole cue pairs where clusters share them; the more cautious p of each site."""
    kinds = units(table.pairs, alpha=alpha)
    return most_cautious([sign_flip(unit.sums(table.effects), rng=rng, resamples=resamples) for unit in kinds])


def _total(
    table: EffectTable, clusters: Clusters, *, alpha: float, resamples: int, rng: np.random.Generator
) -> Estimate:
    columns = {"n": np.ones(len(table.pairs)), "total": table.total}
    sample = Resampled.of(columns, clusters, rng=rng, resamples=resamples)
    return sample.estimate(lambda sums: sums["total"] / sums["n"], alpha=alpha, what="mean total effect")


def _ratios(sums: Array, drawn: Array, *, denominator: int, alpha: float, clusters: float | None) -> Columns:
    """Site sums over the sums of one of the last two columns (pairs, total effect); no clusters, no intervals."""
    totals = sums.sum(axis=0)
    value = totals[:-2] / totals[denominator]
    if clusters is None:
        return Columns(value, None)
    rest = totals - sums
    with np.errstate(divide="ignore", invalid="ignore"):
        left_out = rest[:, :-2] / rest[:, denominator, None]
        draws = drawn[:, :-2] / drawn[:, denominator, None]
    bounds = intervals(draws, value, left_out, clusters=clusters, alpha=alpha)
    known = ~constant(left_out) & np.isfinite(left_out).all(axis=0)
    return Columns(value, Bounds(np.where(known, bounds.low, np.nan), np.where(known, bounds.high, np.nan)))


def placebo_floor(table: EffectTable) -> Array:
    """[site] |mean effect| over placebo pairs: what a site moves by when nothing protected changes."""
    return np.asarray(np.abs(table.effects.mean(axis=0, dtype=np.float64)))
