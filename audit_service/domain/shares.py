"""Shares of pairs and their intervals: approvals, flips and the ratio of approval rates.

Few events make a bootstrap interval too narrow, so shares have intervals of their own, with the sample size that
independent pairs of equal information would have in place of the number of pairs.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from audit_service.domain.cells import COMPARISON, REFERENCE
from audit_service.domain.uncertainty import Array, Estimate, fewest_clusters, level

FEWEST_FLIPPING = 10
"""Clusters with a flip below which resampling them says too little about the ratio of paired rates."""


def share(events: Array, sizes: Array, *, alpha: float, what: str) -> Estimate:
    """Share of pairs with an event, from counts per cluster: exact binomial for clusters (Korn & Graubard 1998)."""
    method = f"{what}; Korn-Graubard {level(alpha)}"
    if not len(events):
        return Estimate(None, None, None, method, "reason.not_measured")
    value = float(events.sum() / sizes.sum())
    if len(events) < fewest_clusters(alpha):
        return Estimate(value, None, None, method, "reason.too_few_clusters")
    pairs = float(sizes.sum())
    size = _effective_pairs(events, sizes, independent=value * (1 - value) / pairs)
    quantiles = [float(special.stdtrit(freedom, 1 - alpha / 2)) for freedom in (pairs - 1, _effective(sizes) - 1)]
    size = min(size * (quantiles[0] / quantiles[1]) ** 2, pairs)
    count = value * size
    low = float(special.betaincinv(count, size - count + 1, alpha / 2)) if value > 0 else 0.0
    high = float(special.betaincinv(count + 1, size - count, 1 - alpha / 2)) if value < 1 else 1.0
    return Estimate(value, low, high, method)


def net_share(lost: Array, gained: Array, sizes: Array, *, alpha: float, what: str) -> Estimate:
    """(lost - gained) / pairs from counts per cluster, adding half an event to each cell (Agresti & Min 2005).

    Student's quantile and the effective number of pairs make it hold for clusters.
    """
    method = f"{what}; Agresti-Min {level(alpha)}"
    if not len(lost):
        return Estimate(None, None, None, method, "reason.not_measured")
    pairs = float(sizes.sum())
    net, gross = float((lost - gained).sum() / pairs), float((lost + gained).sum() / pairs)
    if len(lost) < fewest_clusters(alpha):
        return Estimate(net, None, None, method, "reason.too_few_clusters")
    size = _effective_pairs(lost - gained, sizes, independent=(gross - net**2) / pairs)
    centre = size * net / (size + 2)
    error = math.sqrt(size * gross + 1 - (size * net) ** 2 / (size + 2)) / (size + 2)
    reach = float(special.stdtrit(_effective(sizes) - 1, 1 - alpha / 2)) * error
    return Estimate(net, max(centre - reach, -1.0), min(centre + reach, 1.0), method)


def _effective_pairs(counts: Array, sizes: Array, *, independent: float) -> float:
    """Pairs over the design effect: the clustered variance of the share against that of independent pairs.

    Never more than the pairs; the number of clusters where nothing varies.
    """
    clusters, pairs = len(counts), float(sizes.sum())
    residual = counts - counts.sum() / pairs * sizes
    clustered = clusters / (clusters - 1) * float(np.square(residual).sum()) / pairs**2
    return min(pairs, pairs * independent / clustered) if clustered > 0 and independent > 0 else float(clusters)


def _effective(sizes: Array) -> float:
    """Clusters of equal size that would tell as much (Kish 1965)."""
    return float(sizes.sum() ** 2 / np.square(sizes).sum())


def difference(one: Estimate, other: Estimate, *, what: str) -> Estimate:
    """Difference of two independent estimates from their intervals (Newcombe 1998; MOVER, Zou & Donner 2008)."""
    method = f"{what}; square-and-add of both intervals"
    if one.value is None or other.value is None:
        return Estimate(None, None, None, method, "reason.not_measured")
    value = one.value - other.value
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Estimate(value, None, None, method, one.issue or other.issue)
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    return Estimate(value, low, value + math.hypot(one.high - one.value, other.value - other.low), method)


def ratio_from_net(ratio: Estimate, net: Estimate, reference: float) -> Estimate:
    """The ratio of paired rates with the interval of the net flips, for few flips: ratio = 1 - net / reference rate.

    With few flips nearly all of the ratio's uncertainty is that of the net share.
    """
    if ratio.value is None or net.low is None or net.high is None:
        return ratio
    method = f"ratio of approval rates of paired prompts; from net flips, {net.method}"
    return Estimate(ratio.value, max(1 - net.high / reference, 0.0), 1 - net.low / reference, method)


def katz(approved: Sequence[int], asked: Sequence[int], *, alpha: float) -> Estimate:
    """Ratio of two independent rates (comparison over reference) with Katz's log interval (Katz et al. 1978).

    Both sequences are (reference, comparison). For independent samples; pairs have their own interval. No interval
    where everybody is approved or nobody of the comparison group is: its width would be 0 or infinite.
    """
    method = f"ratio of independent rates; Katz log interval {level(alpha)}"
    if min(asked) == 0 or approved[REFERENCE] == 0:
        return Estimate(None, None, None, method, "reason.undefined")
    rates = [part / whole for part, whole in zip(approved, asked, strict=True)]
    ratio = rates[COMPARISON] / rates[REFERENCE]
    if approved[COMPARISON] == 0:
        return Estimate(ratio, None, None, method, "reason.undefined")
    if min(rates) == 1:
        return Estimate(ratio, None, None, method, "reason.no_variation")
    spread = math.sqrt(sum((1 - rate) / part for rate, part in zip(rates, approved, strict=True)))
    reach = math.exp(float(stats.norm.ppf(1 - alpha / 2)) * spread)
    return Estimate(ratio, ratio / reach, ratio * reach, method)


def mcnemar(lost: int, gained: int) -> float:
    """Exact two-sided McNemar p over discordant pairs; 1 when there are none."""
    return float(stats.binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
