"""How stable the order of the sites is: what a reader may build on a ranking (METHOD.md section 4).

Sites are ranked by the size of their mean effect, whatever its sign.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audit_service.domain.uncertainty import Array

SPLITS = 200


class Spread(NamedTuple):
    """A value and the range of 95 % of its repetitions."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, repeated: Array) -> "Spread":
        low, high = np.quantile(repeated, [0.025, 0.975])
        return cls(float(repeated.mean()), float(low), float(high))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The leading sites of one half of the clusters, measured on the other half."""

    leading: Spread
    """Mean effect of the leading sites, in the direction they had when chosen (nats)."""
    random: Spread
    """The same for as many sites drawn at random."""
    beaten: float
    """Share of all pairs of a random and a leading set, over the splits, in which the random one is at least as large.

    The splits share their clusters, so it describes them and is no p value.
    """


def leading_count(sites: int) -> int:
    """How many sites count as leading: ten, or fewer where there are few."""
    return max(1, min(10, sites // 4))


def rank_intervals(draws: NDArray[np.floating], *, alpha: float) -> tuple[Array, Array]:
    """[resample, site] mean effects → lowest and highest rank of each site over 1 - alpha of the resamples; 1 leads."""
    ranks = stats.rankdata(-np.abs(draws), axis=1, method="min")
    low, high = np.quantile(ranks, [alpha / 2, 1 - alpha / 2], axis=0)
    return np.floor(low), np.ceil(high)


def ranks(effects: Array) -> Array:
    """[site] → rank by size; 1 leads, equals share the better rank."""
    return np.asarray(stats.rankdata(-np.abs(effects), method="min"), dtype=np.float64)


def overlap(effects: Array, draws: NDArray[np.floating]) -> Spread:
    """Jaccard overlap of the leading sites with those of each resample."""
    return Spread.of(shared_leading(np.broadcast_to(effects, draws.shape), draws))


def shared_leading(one: NDArray[np.floating], other: NDArray[np.floating]) -> Array:
    """[row, site] twice → [row] Jaccard overlap: leading sites that are shared over all that lead in either."""
    count = leading_count(one.shape[1])
    lead = np.zeros(one.shape, dtype=bool)
    np.put_along_axis(lead, _leading(one, count), values=True, axis=1)
    shared = np.take_along_axis(lead, _leading(other, count), axis=1).sum(axis=1)
    return np.asarray(shared / (2 * count - shared))


def _leading(effects: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """[row, site] → [row, count] indices of the largest sizes."""
    return np.argsort(-np.abs(effects), axis=1, kind="stable")[:, :count]


class Halves(NamedTuple):
    """Mean effects [split, site] in either half of the clusters, split at random again and again."""

    one: Array
    other: Array

    @classmethod
    def of(cls, sums: Array, sizes: Array, *, rng: np.random.Generator) -> "Halves":
        """``sums`` [cluster, site], ``sizes`` [cluster]; at least two clusters."""
        order = np.argsort(rng.random((SPLITS, len(sums))), axis=1)
        chosen = (order < len(sums) // 2).astype(np.float64)
        one = chosen @ sums / (chosen @ sizes)[:, None]
        rest = 1 - chosen
        return cls(one, rest @ sums / (rest @ sizes)[:, None])


def split_half(halves: Halves) -> Spread | None:
    """Spearman correlation of the effects in two halves; None where the effects do not differ between sites."""
    one, other = (stats.rankdata(half, axis=1) for half in halves)
    one, other = (half - half.mean(axis=1, keepdims=True) for half in (one, other))
    spread = np.sqrt(np.square(one).sum(axis=1) * np.square(other).sum(axis=1))
    if not spread.all():
        return None
    return Spread.of((one * other).sum(axis=1) / spread)


def held_out(halves: Halves, *, rng: np.random.Generator) -> HeldOut:
    """Whether sites that lead in one half lead in the other, against sites drawn at random.

    Choosing and measuring on the same pairs would make any sites look strong.
    """
    splits, sites = halves.one.shape
    count = leading_count(sites)
    leading = _leading(halves.one, count)
    drawn = np.argsort(rng.random((splits, sites)), axis=1)[:, :count]
    strong, random = (_signed_mean(halves, chosen) for chosen in (leading, drawn))
    beaten = (random[:, None] >= strong[None, :]).mean()
    return HeldOut(Spread.of(strong), Spread.of(random), float(beaten))


def _signed_mean(halves: Halves, chosen: NDArray[np.intp]) -> Array:
    """[split] mean effect of the chosen sites in the other half, in the direction they had in the first."""
    first, second = (np.take_along_axis(half, chosen, axis=1) for half in halves)
    return np.asarray((np.sign(first) * second).mean(axis=1))
