"""Whether the intervals cover and the tests keep their level, seen by simulation.

Audits with known truth are drawn again and again: clusters of equal or unequal size, with a gap or without, few or
many. Each is judged by the functions that judge real audits, and the share of them that are right is counted.
Simulation sees what theory leaves open: few clusters, unequal clusters, skewed statistics, rare flips.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats
from scipy.special import expit

from audit_service.domain.disparity import ClusteredMean, mean, selection_ratio, standardised
from audit_service.domain.shares import FEWEST_FLIPPING, net_share, ratio_from_net, share
from audit_service.domain.uncertainty import (
    Array,
    Clusters,
    Estimate,
    Resampled,
    generator,
    intervals,
    most_cautious,
    sign_flip,
)

ALPHA = 0.05
RESAMPLES = 1000
SITES = 20
LARGEST_CLUSTER = 8
CLUSTER_SPREAD, PAIR_SPREAD = 0.15, 0.1
"""Standard deviation of the gap between clusters and between the pairs of one, in nats."""
BASE, BASE_SPREAD = 0.3, 1.0
"""Mean and standard deviation of the decision value between prompts, in nats."""


FEW = 100
"""Below so many clusters coverage lies nearer to its bound, and the simulation's own error must be smaller."""


@dataclass(frozen=True, slots=True)
class World:
    """What the simulated audits have in common."""

    clusters: int
    unequal: bool
    """Cluster sizes from 1 to 8 pairs, or 3 in each."""
    gap: float
    """True mean gap in nats."""

    @property
    def times(self) -> int:
        """How many times as many audits are drawn."""
        return 4 if self.clusters < FEW else 1

    @property
    def name(self) -> str:
        sizes = "unequal" if self.unequal else "equal"
        return f"{self.clusters} {sizes} clusters, gap {self.gap:g}"


WORLDS = tuple(
    World(clusters, unequal, gap) for clusters in (12, 36, 250) for unequal in (False, True) for gap in (0.0, 0.3)
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A share of simulated audits, and the range in which a sound method has it."""

    world: str
    what: str
    rate: float
    audits: int
    lowest: float
    highest: float

    @property
    def sound(self) -> bool:
        return self.lowest <= self.rate <= self.highest


@dataclass(frozen=True, slots=True)
class Audit:
    """One simulated audit: cells of pairs, and which cluster each belongs to."""

    clusters: Clusters
    gap: Array
    """[pair]"""
    middle: Array
    """[pair] mean decision value of both prompts"""

    @property
    def columns(self) -> dict[str, Array]:
        d = np.column_stack([self.middle + self.gap / 2, self.middle - self.gap / 2])
        reference, comparison = (d > 0).astype(np.float64).T
        return {
            "n": np.ones(len(d)),
            "gap": self.gap,
            "gap_squared": np.square(self.gap),
            "gap_pp": 100 * (expit(d[:, 0]) - expit(d[:, 1])),
            "reference": reference,
            "comparison": comparison,
            "lost": reference * (1 - comparison),
            "gained": comparison * (1 - reference),
        }


def draw(world: World, rng: np.random.Generator) -> Audit:
    sizes = rng.integers(1, LARGEST_CLUSTER + 1, world.clusters) if world.unequal else np.full(world.clusters, 3)
    codes = np.repeat(np.arange(world.clusters), sizes)
    shift = rng.normal(0, CLUSTER_SPREAD, world.clusters)[codes]
    gap = world.gap + shift + rng.normal(0, PAIR_SPREAD, len(codes))
    return Audit(Clusters(codes, world.clusters), gap, rng.normal(BASE, BASE_SPREAD, len(codes)))


@cache
def truth(gap: float) -> dict[str, float]:
    """The statistics of a world's whole population, by numerical integration over gap and prompt."""
    spread = math.hypot(CLUSTER_SPREAD, PAIR_SPREAD)
    gaps = gap + spread * stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    middles = BASE + BASE_SPREAD * stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    reference = float(stats.norm.sf((-gaps / 2 - BASE) / BASE_SPREAD).mean())
    comparison = float(stats.norm.sf((gaps / 2 - BASE) / BASE_SPREAD).mean())
    between = np.abs(stats.norm.cdf((gaps / 2 - BASE) / BASE_SPREAD) - stats.norm.cdf((-gaps / 2 - BASE) / BASE_SPREAD))
    halves = gaps[:, None] / 2
    points = 100 * float((expit(middles + halves) - expit(middles - halves)).mean())
    return {
        "mean gap": gap,
        "mean gap of p": points,
        "d_z": gap / spread,
        "rate": reference,
        "ratio": comparison / reference,
        "net flips": reference - comparison,
        "gross flips": float(between.mean()),
    }


def estimates(sample: Resampled) -> dict[str, Estimate]:
    """The decision-level estimates, as a run's rows have them."""
    lost, gained, sizes = (sample.sums(name) for name in ("lost", "gained", "n"))
    rate = share(sample.sums("reference"), sizes, alpha=ALPHA, what="rate")
    net = net_share(lost, gained, sizes, alpha=ALPHA, what="net")
    ratio = sample.estimate(selection_ratio, alpha=ALPHA, what="ratio")
    few = int((lost + gained > 0).sum()) < FEWEST_FLIPPING
    return {
        "mean gap": sample.estimate(mean("gap"), alpha=ALPHA, what="gap"),
        "mean gap of p": sample.estimate(mean("gap_pp"), alpha=ALPHA, what="gap"),
        "d_z": sample.jackknife(standardised, alpha=ALPHA, what="d_z"),
        "rate": rate,
        "ratio": ratio_from_net(ratio, net, rate.value) if few and rate.value else ratio,
        "net flips": net,
        "gross flips": share(lost + gained, sizes, alpha=ALPHA, what="gross"),
    }


def coverage(world: World, *, audits: int, seed: int) -> Iterator[Calibration]:
    """How often each interval holds the truth: of the decision, and over all sites of raw and normalised effects.

    Intervals of shares may hold it more often than 95 %. Decisions and sites of one audit share their resamples, as
    its clusters are the same.
    """
    rng, known, carried = generator(seed, world.name, "coverage"), truth(world.gap), np.linspace(-0.5, 1, SITES)
    denominators = {"raw": ("n", carried * world.gap)} | ({"normalised": ("gap", carried)} if world.gap else {})
    held, sites = dict.fromkeys(known, 0), dict.fromkeys(denominators, 0)
    for _ in range(audits):
        audit = draw(world, rng)
        effects = {f"site {index}": column for index, column in enumerate(site_effects(audit, carried, rng).T)}
        sample = Resampled.of(audit.columns | effects, audit.clusters, rng=rng, resamples=RESAMPLES)
        for name, estimate in estimates(sample).items():
            held[name] += _holds(estimate, known[name])
        for name, (over, truths) in denominators.items():
            sites[name] += _sites_held(sample, over, truths)
    lowest, highest = _covering(audits)
    for name, count in held.items():
        sharp = name in {"mean gap", "mean gap of p"}
        what = f"interval of the {name}"
        yield Calibration(world.name, what, count / audits, audits, lowest, highest if sharp else 1)
    for name, count in sites.items():
        what = f"interval of {name} site effects"
        yield Calibration(world.name, what, count / (audits * SITES), audits, lowest, highest)


def _sites_held(sample: Resampled, over: str, truths: Array) -> int:
    """How many of the sites have an interval, of ratios over one column, that holds the truth."""
    denominator, totals = sample.names.index(over), sample.by_cluster.sum(axis=0)
    rest = totals - sample.by_cluster
    bounds = intervals(
        sample.draws[:, -SITES:] / sample.draws[:, denominator, None],
        totals[-SITES:] / totals[denominator],
        rest[:, -SITES:] / rest[:, denominator, None],
        clusters=sample.effective,
        alpha=ALPHA,
    )
    return int(((bounds.low <= truths) & (truths <= bounds.high)).sum())


def _holds(estimate: Estimate, value: float) -> bool:
    return estimate.low is not None and estimate.high is not None and estimate.low <= value <= estimate.high


def site_effects(audit: Audit, carried: Array, rng: np.random.Generator) -> Array:
    """[pair, site] effects that carry shares of the gap, with noise of clusters, of pairs, and of all sites at once."""
    clusters, pairs = audit.clusters.count, len(audit.gap)
    noise = rng.normal(0, 0.05, (clusters, SITES))[audit.clusters.codes] + rng.normal(0, 0.05, (pairs, SITES))
    # Noise that the sites share makes their tests dependent, as those of one network are.
    noise += rng.normal(0, 0.05, (clusters, 1))[audit.clusters.codes]
    return carried * audit.gap[:, None] + noise


def false_names(world: World, *, audits: int, seed: int) -> Iterator[Calibration]:
    """How often any site is named when none has an effect, and a gap is found when there is none.

    The gap is tested with the sites, one column more in the same family.
    """
    rng = generator(seed, world.name, "null")
    named = found = 0
    for _ in range(audits):
        audit = draw(world, rng)
        sums = audit.clusters.sums(np.column_stack([site_effects(audit, np.zeros(SITES), rng), audit.gap]))
        test = sign_flip(sums, rng=rng, resamples=RESAMPLES)
        named += bool((test.adjusted < ALPHA).any())
        found += bool(test.raw[-1] < ALPHA)
    yield Calibration(world.name, "sites named by mistake", named / audits, audits, 0, _tolerated(audits))
    yield Calibration(world.name, "gaps found by mistake", found / audits, audits, 0, _tolerated(audits))


def false_gaps_of_shared_names(world: World, *, audits: int, seed: int) -> Iterator[Calibration]:
    """How often a gap is found when there is none, but each pair of names stands in two templates and has its own.

    By clusters alone it would be found too often; whole cue pairs must show it too.
    """
    rng = generator(seed, world.name, "names")
    names = world.clusters // 2
    cues = Clusters(np.tile(np.arange(names), 2), names)
    found = 0
    for _ in range(audits):
        own = rng.normal(0, CLUSTER_SPREAD, names)[cues.codes]
        sums = (own + rng.normal(0, PAIR_SPREAD, 2 * names))[:, None]
        tests = [sign_flip(part, rng=rng, resamples=RESAMPLES) for part in (sums, cues.sums(sums))]
        found += bool(most_cautious(tests).raw[0] < ALPHA)
    what = "gaps found by mistake, names in two templates"
    yield Calibration(world.name, what, found / audits, audits, 0, _tolerated(audits))


def false_equivalence(world: World, *, audits: int, seed: int) -> Iterator[Calibration]:
    """How often a gap of exactly the margin is called equivalent."""
    rng, margin = generator(seed, world.name, "margin"), 0.1
    edge = World(world.clusters, world.unequal, margin)
    called = 0
    for _ in range(audits):
        audit = draw(edge, rng)
        sums, sizes = audit.clusters.sums(np.column_stack([audit.gap, np.ones(len(audit.gap))])).T
        called += ClusteredMean.of(sums, sizes).equivalence_p(margin) < ALPHA
    yield Calibration(world.name, "equivalence shown by mistake", called / audits, audits, 0, _tolerated(audits))


def _covering(audits: int) -> tuple[float, float]:
    """Nominal 95 %: 93 to 97 % over 1,000 audits or more; the simulation's own error adds to that for fewer."""
    slack = 0.02 * math.sqrt(max(1.0, 1000 / audits))
    return 0.95 - slack, min(0.95 + slack, 1.0)


def _tolerated(audits: int) -> float:
    """Alpha and three standard errors of the simulation itself."""
    return ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / audits)


CHECKS: tuple[Callable[..., Iterator[Calibration]], ...] = (
    coverage,
    false_names,
    false_gaps_of_shared_names,
    false_equivalence,
)


def calibrate(*, audits: int = 1000, seed: int = 1, worlds: Sequence[World] = WORLDS) -> Iterator[Calibration]:
    """Every check in every world, as soon as each is known; four times as many audits where clusters are few.

    All but coverage draw their own gap, none or the margin: they are asked in the worlds without a gap alone.
    """
    for world in worlds:
        for check in CHECKS if world.gap == 0 else [coverage]:
            yield from check(world, audits=audits * world.times, seed=seed)
