"""Uncertainty of clustered data, by matrix products of resampling weights.

Every statistic here is a smooth function of sums over pairs. Pairs of one cluster (template x cue pair) are not
independent, so clusters are what is resampled: with cluster sums F [cluster, k] and multinomial weights
W [resample, cluster], all resamples are one product W @ F. Sources: Efron 1987 (BCa), Hesterberg 2015 (expansion for
few clusters), Cameron, Gelbach & Miller 2008 (clusters), Winkler et al. 2014 (sign flips), Westfall & Young 1993
(max-T), Holm 1979, Benjamini & Hochberg 1995.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Array = NDArray[np.float64]
Sums = Mapping[str, Array]
Statistic = Callable[[Sums], Array]
"""Named sums of any leading shape → values of that shape; NaN or infinite where the formula has no value."""

BCA_BELOW = 200
"""Clusters below which the interval is bias-corrected and accelerated (METHOD.md section 3)."""
CHUNK = 1 << 22
"""Weights held at once, so that memory does not grow with the number of resamples."""


def generator(seed: int, *names: str) -> np.random.Generator:
    """The stream of one named purpose. Adding another purpose changes no draw of this one."""
    key = hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()
    return np.random.default_rng(np.frombuffer(key, dtype=np.uint32))


def fewest_clusters(alpha: float) -> int:
    """Below this no exact test of signs can reach alpha (2^(1 - clusters) > alpha), so no interval is given."""
    return math.ceil(1 - math.log2(alpha))


@dataclass(frozen=True, slots=True)
class Clusters:
    """Which cluster each row belongs to."""

    codes: NDArray[np.intp]
    """[row]"""
    count: int

    @classmethod
    def of(cls, labels: Sequence[str]) -> Self:
        names, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
        return cls(codes, len(names))

    @property
    def effective(self) -> float:
        """Clusters of equal size that would tell as much: (sum of sizes)^2 / sum of squared sizes (Kish 1965)."""
        sizes = np.bincount(self.codes, minlength=self.count).astype(np.float64)
        return float(sizes.sum() ** 2 / np.square(sizes).sum()) if self.count else 0.0

    def sums(self, values: NDArray[np.floating]) -> Array:
        """[row, k] → [cluster, k]"""
        if not self.count:
            return np.zeros((0, values.shape[1]))
        order = np.argsort(self.codes, kind="stable")
        starts = np.searchsorted(self.codes[order], np.arange(self.count))
        summed: Array = np.add.reduceat(values[order], starts, axis=0, dtype=np.float64)
        return summed


class Bounds(NamedTuple):
    """Lower and upper ends, one per column; NaN where there is no interval."""

    low: Array
    high: Array


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval, or the sentence id of why there is none."""

    value: float | None
    low: float | None
    high: float | None
    method: str
    issue: str | None = None
    """Why the value or the interval is missing."""


def excludes_zero(estimate: Estimate) -> bool:
    """Whether there is an interval and 0 lies outside it."""
    return estimate.low is not None and estimate.high is not None and (estimate.low > 0 or estimate.high < 0)


@dataclass(frozen=True, slots=True)
class Resampled:
    """Cluster sums of named columns, and their totals over resampled clusters."""

    names: tuple[str, ...]
    by_cluster: Array
    """[cluster, column]"""
    draws: Array
    """[resample, column]"""
    effective: float
    """Clusters of equal size that would tell as much."""

    @classmethod
    def of(cls, columns: Mapping[str, Array], clusters: Clusters, *, rng: np.random.Generator, resamples: int) -> Self:
        sums = clusters.sums(np.column_stack(list(columns.values())))
        return cls(tuple(columns), sums, resample(sums, rng=rng, resamples=resamples), clusters.effective)

    @property
    def clusters(self) -> int:
        return len(self.by_cluster)

    def total(self, name: str) -> float:
        return float(self.sums(name).sum())

    def sums(self, name: str) -> Array:
        """[cluster] the sum of a column within each cluster."""
        return self.by_cluster[:, self.names.index(name)]

    def estimate(self, statistic: Statistic, *, alpha: float, what: str) -> Estimate:
        """The statistic with its 1 - alpha bootstrap interval."""
        kind = "BCa" if self.clusters < BCA_BELOW else "percentile"
        method = f"{what}; cluster bootstrap {kind} {level(alpha)}"
        value, left_out, issue = self._leaving_out(statistic, alpha)
        if value is None or issue is not None:
            return Estimate(value, None, None, method, issue)
        draws = self._values(statistic, self.draws)[:, None]
        low, high = intervals(draws, np.array([value]), left_out[:, None], clusters=self.effective, alpha=alpha)
        if not (np.isfinite(low[0]) and np.isfinite(high[0])):
            return Estimate(value, None, None, method, "reason.unstable")
        return Estimate(value, float(low[0]), float(high[0]), method)

    def jackknife(self, statistic: Statistic, *, alpha: float, what: str) -> Estimate:
        """The statistic with a Student interval by leaving out one cluster at a time.

        For statistics that divide by a spread: resampled clusters understate it, and so the bootstrap's interval
        covers too seldom with few clusters.
        """
        method = f"{what}; cluster jackknife t {level(alpha)}"
        value, left_out, issue = self._leaving_out(statistic, alpha)
        if value is None or issue is not None:
            return Estimate(value, None, None, method, issue)
        clusters = self.clusters
        error = math.sqrt((clusters - 1) / clusters * float(np.square(left_out - left_out.mean()).sum()))
        reach = float(special.stdtrit(self.effective - 1, 1 - alpha / 2)) * error
        return Estimate(value, value - reach, value + reach, method)

    def _leaving_out(self, statistic: Statistic, alpha: float) -> tuple[float | None, Array, str | None]:
        """The value, the values without one cluster each, and why there can be no interval."""
        if not self.clusters:
            return None, np.zeros(0), "reason.not_measured"
        totals = self.by_cluster.sum(axis=0)
        value = float(self._values(statistic, totals))
        if not math.isfinite(value):
            return None, np.zeros(0), "reason.undefined"
        left_out = self._values(statistic, totals - self.by_cluster)
        return value, left_out, _no_interval(left_out[:, None], alpha)

    def _values(self, statistic: Statistic, sums: Array) -> Array:
        named = {name: sums[..., index] for index, name in enumerate(self.names)}
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return statistic(named)


def level(alpha: float) -> str:
    """Confidence in words: 0.05 → "95 %"."""
    return f"{100 * (1 - alpha):g} %"


def _no_interval(left_out: Array, alpha: float) -> str | None:
    if len(left_out) < fewest_clusters(alpha):
        return "reason.too_few_clusters"
    if not np.isfinite(left_out).all():
        return "reason.unstable"
    return "reason.no_variation" if constant(left_out)[0] else None


def constant(left_out: Array) -> NDArray[np.bool_]:
    """[cluster, column] → [column] whether no cluster makes a difference: there is no variation to learn from."""
    return np.asarray(np.ptp(left_out, axis=0) <= 1e-11 * np.maximum(np.abs(left_out).max(axis=0), 1e-30))


def resample(sums: Array, *, rng: np.random.Generator, resamples: int) -> Array:
    """[cluster, k] → [resample, k]: sums over clusters drawn with replacement.

    In double precision: the rounding of single precision differs between machines by enough to move a printed bound.
    """
    clusters, columns = sums.shape
    drawn = np.zeros((resamples, columns))
    for rows in _chunks(resamples, CHUNK // max(1, clusters)) if clusters else ():
        drawn[rows] = _weights(rng, rows.stop - rows.start, clusters).astype(np.float64) @ sums
    return drawn


def _weights(rng: np.random.Generator, rows: int, clusters: int) -> NDArray[np.int64]:
    """[row, cluster] how often each cluster was drawn; a multinomial draw per row."""
    drawn = rng.integers(clusters, size=(rows, clusters), dtype=np.int64)
    drawn += clusters * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * clusters).reshape(rows, clusters)


def _chunks(total: int, size: int) -> Iterator[slice]:
    size = max(1, size)
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def expanded_alpha(alpha: float, clusters: float) -> float:
    """The nominal level that makes a bootstrap interval of few clusters as wide as Student's (Hesterberg 2015).

    The bootstrap's spread is sqrt((G - 1) / G) of the standard error, and its quantiles are nearly normal rather
    than t: both make it too narrow by themselves.
    """
    quantile = special.stdtrit(clusters - 1, 1 - alpha / 2) * math.sqrt(clusters / (clusters - 1))
    return float(2 * special.ndtr(-quantile))


def intervals(draws: Array, observed: Array, left_out: Array, *, clusters: float, alpha: float) -> Bounds:
    """Bootstrap intervals of each column of ``draws`` [resample, column], expanded for few clusters.

    ``left_out`` [cluster, column] are the values without one cluster each, ``clusters`` the effective number of them.
    BCa below 200 clusters, percentile from there on. A column with a NaN draw has no interval.
    """
    nominal = expanded_alpha(alpha, clusters)
    tails = np.array([nominal / 2, 1 - nominal / 2])[:, None]
    levels = (
        bca_levels(draws, observed, left_out, tails) if len(left_out) < BCA_BELOW else np.tile(tails, len(observed))
    )
    ordered = np.sort(draws, axis=0)
    low, high = _quantiles(ordered, levels)
    undefined = np.isnan(ordered[-1])
    return Bounds(np.where(undefined, np.nan, low), np.where(undefined, np.nan, high))


def bca_levels(draws: Array, observed: Array, left_out: Array, tails: Array) -> Array:
    """[tail, 1] nominal levels → [tail, column] levels corrected for bias and acceleration (Efron 1987)."""
    resamples = len(draws)
    below = ((draws < observed).sum(axis=0) + (draws <= observed).sum(axis=0)) / (2 * resamples)
    bias = special.ndtri(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples))
    deviation = left_out.mean(axis=0) - left_out
    spread = np.square(deviation).sum(axis=0)
    skew = np.power(deviation, 3).sum(axis=0)
    acceleration = np.divide(skew, 6 * spread**1.5, out=np.zeros_like(spread), where=spread**1.5 > 0)
    shifted = bias + special.ndtri(tails)
    return np.asarray(special.ndtr(bias + shifted / (1 - acceleration * shifted)))


def _quantiles(ordered: Array, levels: Array) -> Array:
    """[resample, column] sorted, [tail, column] levels → [tail, column], interpolated linearly."""
    position = levels * (len(ordered) - 1)
    lower = np.floor(position).astype(np.intp)
    upper = np.minimum(lower + 1, len(ordered) - 1)
    below = np.take_along_axis(ordered, lower, axis=0)
    above = np.take_along_axis(ordered, upper, axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(below + np.where(above > below, above - below, 0) * (position - lower))


class FlipTest(NamedTuple):
    """p values of sign flips, one per column."""

    raw: Array
    """Of the column by itself."""
    adjusted: Array
    """Of the largest over all columns (max-T): the family-wise error rate is kept."""
    exact: bool
    """Every sign pattern was tried; otherwise a random sample of them with the observed one added."""


def sign_flip(sums: Array, *, rng: np.random.Generator, resamples: int) -> FlipTest:
    """Two-sided test that cluster sums [cluster, column] are symmetric about 0, each column and all at once.

    The statistic is |sum| / sqrt(clusters x sum of squares), which rises with |t| and is never infinite: flipping
    signs leaves the sum of squares as it is. A column of zeros has p = 1.
    """
    clusters, columns = sums.shape
    scale = np.sqrt(clusters * np.square(sums).sum(axis=0))
    unit = np.divide(sums, scale, out=np.zeros_like(sums), where=scale > 0)
    observed = np.abs(unit.sum(axis=0)) * (1 - 1e-9)
    exact = clusters - 1 <= math.log2(resamples)
    total = 2 ** (clusters - 1) if exact else resamples
    raw, largest = np.zeros(columns), np.empty(total)
    for rows in _chunks(total, CHUNK // max(clusters, columns)):
        flipped = np.abs(_signs(rows, clusters, rng=None if exact else rng) @ unit)
        raw += (flipped >= observed).sum(axis=0)
        largest[rows] = flipped.max(axis=1)
    adjusted = total - np.searchsorted(np.sort(largest), observed, side="left")
    extra = 0 if exact else 1
    return FlipTest((raw + extra) / (total + extra), (adjusted + extra) / (total + extra), exact)


def most_cautious(tests: Sequence[FlipTest]) -> FlipTest:
    """The largest p of each column: what is shown must be shown by each unit of resampling."""
    raw = np.max([test.raw for test in tests], axis=0)
    adjusted = np.max([test.adjusted for test in tests], axis=0)
    return FlipTest(raw, adjusted, all(test.exact for test in tests))


def _signs(rows: slice, clusters: int, *, rng: np.random.Generator | None) -> Array:
    """[row, cluster] of -1 and 1: the patterns numbered by ``rows`` (the last sign is always 1), or random ones."""
    if rng is None:
        signs = (np.arange(rows.start, rows.stop)[:, None] >> np.arange(clusters) & 1).astype(np.float64)
    else:
        drawn = rng.integers(256, size=(rows.stop - rows.start, -(-clusters // 8)), dtype=np.uint8)
        signs = np.unpackbits(drawn, axis=1, count=clusters).astype(np.float64)
    signs *= -2
    signs += 1
    return signs


def holm(p_values: Sequence[float], *, others: int = 0) -> list[float]:
    """Holm's step-down adjustment: the family-wise error rate over all of them is kept.

    ``others`` more tests belong to the family whose p values are not known here. They are taken to be larger than all
    of these, which gives each of these its largest factor: no adjusted value is below Holm's over the whole family.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1) + others
    climbing = np.maximum.accumulate(np.asarray(p_values, np.float64)[order] * factors)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(climbing, 1)
    return adjusted.tolist()


def benjamini_hochberg(p_values: Array) -> Array:
    """Step-up adjusted p (q) values: the false discovery rate is kept. For screening only."""
    if not len(p_values):
        return np.zeros(0)
    return np.asarray(stats.false_discovery_control(p_values, method="bh"))
