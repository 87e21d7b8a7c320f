"""Disparity of decisions between a comparison group and the reference group (METHOD.md section 3).

A positive gap means that the reference group is favoured (see cells.py).
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import stats

from audit_service.domain.behaviors import Behavior
from audit_service.domain.contrasts import Contrast, columns, independent, units
from audit_service.domain.metrics import LOG_ODDS, Metric
from audit_service.domain.plan import Judging, Unit
from audit_service.domain.uncertainty import (
    Array,
    Clusters,
    Estimate,
    Resampled,
    Statistic,
    Sums,
    fewest_clusters,
    generator,
    sign_flip,
)
from audit_service.errors import InvalidInput


def mean(name: str) -> Statistic:
    """Sum of a column per pair."""
    return lambda sums: sums[name] / sums["n"]


def selection_ratio(sums: Sums) -> Array:
    """Approval rate of the comparison group over that of the reference group (adverse impact ratio)."""
    return sums["comparison"] / np.where(sums["reference"] > 0, sums["reference"], np.nan)


def standardised(sums: Sums) -> Array:
    """d_z = mean / standard deviation (n - 1) of the paired differences."""
    n = sums["n"]
    variance = (sums["gap_squared"] - np.square(sums["gap"]) / n) / (n - 1)
    spread = np.where(variance > 1e-12 * sums["gap_squared"] / n, variance, np.nan)
    return sums["gap"] / n / np.sqrt(spread)


class ClusteredMean(NamedTuple):
    """A mean over pairs with its cluster-robust standard error."""

    value: float
    error: float
    clusters: int

    @classmethod
    def of(cls, sums: Array, sizes: Array) -> "ClusteredMean":
        """``sums`` and ``sizes`` [cluster]: needs two clusters at least."""
        clusters = len(sums)
        value = float(sums.sum() / sizes.sum())
        residual = sums - value * sizes
        error = math.sqrt(clusters / (clusters - 1) * float(np.square(residual).sum())) / float(sizes.sum())
        return cls(value, error, clusters)

    def interval(self, alpha: float) -> tuple[float, float]:
        reach = float(stats.t.ppf(1 - alpha / 2, self.clusters - 1)) * self.error
        return self.value - reach, self.value + reach

    def equivalence_p(self, delta: float) -> float:
        """TOST: the larger of the one-sided p values against -delta and +delta (Schuirmann 1987)."""
        nearest = (delta - abs(self.value)) / self.error
        return float(stats.t.sf(nearest, self.clusters - 1))

    def detectable(self, alpha: float) -> float:
        """Minimum detectable effect at 80 % power: 2.8 x SE at alpha 0.05 (METHOD.md section 3)."""
        factor = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(0.8)
        return round(float(factor), 1) * self.error


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a verdict on one contrast rests on. ``issue`` says why there is less than that."""

    key: str
    form: str
    group: str
    reference: str
    unit: str
    threshold: float
    delta: float
    pairs: int
    not_measured: int
    clusters: int
    needed: int
    """Clusters below which there is no conclusion."""
    gap: Estimate
    p_value: float | None = None
    """Sign flips of the gap."""
    mean: ClusteredMean | None = None
    flips: float | None = None
    """Net flips (b - c) / n."""
    flips_p: float | None = None
    """Sign flips of the net flips, clusters kept together."""

    @property
    def equivalence_p(self) -> float | None:
        return None if self.mean is None else self.mean.equivalence_p(self.delta)

    @property
    def favoured(self) -> str:
        return self.reference if (self.gap.value or 0) > 0 else self.group


def unit_of(contrast: Contrast, unit: Unit, *, alpha: float) -> Unit:
    """Cue pairs only where they are fewer than the clusters, and enough for a conclusion; else clusters."""
    return unit if len(units(contrast.table.pairs, alpha=alpha)) > 1 else Unit.CLUSTER


def assess(
    contrast: Contrast, *, behavior: Behavior, judging: Judging, metric: Metric = LOG_ODDS, unit: Unit = Unit.CLUSTER
) -> Assessment:
    """Gap, significance and equivalence of one contrast; ``unit`` is what is resampled.

    Raises InvalidInput for a metric that has no margins on these prompts: thresholds in nats are none in its unit.
    """
    clusters = Clusters.of([independent(pair, unit) for pair in contrast.table.pairs])
    data = columns(contrast.table, cut=behavior.cut, metric=metric)
    rng = generator(judging.seed, contrast.key, metric.name, unit)
    sample = Resampled.of(data, clusters, rng=rng, resamples=judging.resamples)
    return _assessment(contrast, sample, behavior=behavior, judging=judging, metric=metric, rng=rng)


def _assessment(
    contrast: Contrast,
    sample: Resampled,
    *,
    behavior: Behavior,
    judging: Judging,
    metric: Metric,
    rng: np.random.Generator,
) -> Assessment:
    margins = metric.margins(contrast.table, threshold=behavior.threshold.gap_nats, delta=judging.delta_nats)
    if margins is None:
        raise InvalidInput(
            f"{metric.name} has no threshold in {metric.unit} on the prompts of {contrast.key}.",
            remedy="Declare a tolerance for the metric, or judge by log-odds.",
        )
    estimate = sample.estimate(mean("gap"), alpha=judging.alpha, what="mean paired gap")
    base = Assessment(
        contrast.key,
        contrast.form,
        contrast.group,
        contrast.reference,
        metric.unit,
        margins.threshold,
        margins.delta,
        len(contrast.asked.pairs),
        contrast.not_measured,
        sample.clusters,
        fewest_clusters(judging.alpha),
        estimate,
    )
    if sample.clusters < base.needed or estimate.value is None:
        return base
    net = sample.sums("lost") - sample.sums("gained")
    test = sign_flip(np.column_stack([sample.sums("gap"), net]), rng=rng, resamples=judging.resamples)
    varies = estimate.issue != "reason.no_variation"
    return replace(
        base,
        p_value=float(test.raw[0]),
        mean=ClusteredMean.of(sample.sums("gap"), sample.sums("n")) if varies else None,
        flips=float(net.sum() / sample.sums("n").sum()),
        flips_p=float(test.raw[1]),
    )
