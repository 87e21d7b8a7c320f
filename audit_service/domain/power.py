"""How large a gap a design can detect, and how many clusters a wanted effect takes (METHOD.md section 3, point 8)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy import stats
from statsmodels.stats.power import TTestPower

from audit_service.domain.behaviors import Behavior
from audit_service.domain.contrasts import independent, units
from audit_service.domain.pairs import Pair, PairKind
from audit_service.domain.plan import Judging, Unit
from audit_service.domain.results import Sentence
from audit_service.domain.sentences import say
from audit_service.domain.uncertainty import fewest_clusters

POWER = 0.8
SMALL = 0.01
"""Below so many standard deviations the normal distribution tells the number to one in ten thousand, and the solver for
Student's does not converge."""
SMALLEST = 1e-9
"""Standard deviations; no design reaches what lies below, so its number is not told."""


def detectable(spread: float, *, clusters: int, alpha: float = 0.05, power: float = POWER) -> float:
    """Smallest mean gap that ``clusters`` (at least two) independent clusters detect, two-sided.

    ``spread`` is the standard deviation of the clusters' mean gaps, from a pilot or an earlier run, in the gap's unit.
    """
    return spread * float(TTestPower().solve_power(nobs=clusters, alpha=alpha, power=power))


def required_clusters(spread: float, *, effect: float, alpha: float = 0.05, power: float = POWER) -> int:
    """Smallest number of clusters with which ``effect`` (> 0) is detected at that power, and a conclusion possible."""
    fewest = fewest_clusters(alpha)
    if spread == 0 or detectable(spread, clusters=fewest, alpha=alpha, power=power) <= effect:
        return fewest
    if effect < SMALL * spread:
        quantiles = float(stats.norm.isf(alpha / 2) + stats.norm.ppf(power))
        return math.ceil((quantiles * min(spread / effect, 1 / SMALLEST)) ** 2)
    return math.ceil(float(TTestPower().solve_power(effect_size=effect / spread, alpha=alpha, power=power)))


class Spread(NamedTuple):
    """How much the gaps of clusters vary, as far as it is known before the run."""

    nats: float
    """Standard deviation."""
    source: Sentence
    known: bool
    """False where it is assumed."""


def spread_of(behavior: Behavior, judging: Judging, *, previewed: float | None = None) -> Spread:
    """The declared pilot's, else what a preview on this model saw, else as much as the threshold."""
    if judging.pilot:
        nats = judging.pilot.spread_nats
        return Spread(nats, say("power.declared", spread=nats, source=judging.pilot.source), known=True)
    if previewed:
        return Spread(previewed, say("power.previewed", spread=previewed), known=True)
    assumed = behavior.threshold.gap_nats
    return Spread(assumed, say("power.assumed", spread=assumed), known=False)


@dataclass(frozen=True, slots=True)
class Design:
    """What one comparison can detect, at alpha divided by all comparisons of the family."""

    group: str
    clusters: int
    """What is independent: whole cue pairs where templates share them."""
    by: str
    names: int
    fewest: int
    """Clusters below which nothing can be concluded."""
    effect: float | None
    """Smallest gap that is detected, in nats; None with too few clusters."""
    names_needed: int | None
    """To detect the equivalence margin; None with too few clusters."""


def family(judging: Judging, pairs: Sequence[Pair]) -> int:
    """Comparisons among which alpha is shared."""
    contrast = (pair for pair in pairs if pair.kind is PairKind.CONTRAST)
    own = len({(pair.form, pair.attribute, pair.comparison_group) for pair in contrast})
    return own + judging.comparisons_elsewhere


def designs(judging: Judging, pairs: Sequence[Pair], *, spread: float) -> Iterator[Design]:
    """Each comparison group once: the forms ask the same names, so the first that has the comparison is told.

    The judge corrects for all comparisons of the run (Holm), so alpha is divided by their number: what is detected so
    is detected by Holm's correction too (Bonferroni's bound).
    """
    contrast = [pair for pair in pairs if pair.kind is PairKind.CONTRAST]
    alpha = judging.alpha / max(1, family(judging, pairs))
    for attribute, group in dict.fromkeys((pair.attribute, pair.comparison_group) for pair in contrast):
        ours = [pair for pair in contrast if (pair.attribute, pair.comparison_group) == (attribute, group)]
        ours = [pair for pair in ours if pair.form == ours[0].form]
        by = Unit.CUES if len(units(ours, alpha=judging.alpha)) > 1 else Unit.CLUSTER
        clusters = len({independent(pair, by) for pair in ours})
        names = len({cue for pair in ours for cue in (pair.reference_cue, pair.comparison_cue)})
        fewest, said = fewest_clusters(alpha), "cue pairs" if by is Unit.CUES else "clusters"
        if clusters < fewest:
            yield Design(group, clusters, said, names, fewest, None, None)
            continue
        effect = detectable(spread, clusters=clusters, alpha=alpha)
        needed = required_clusters(spread, effect=judging.delta_nats, alpha=alpha)
        yield Design(group, clusters, said, names, fewest, effect, math.ceil(needed * names / clusters))


def in_words(
    behavior: Behavior, judging: Judging, pairs: Sequence[Pair], *, previewed: float | None = None
) -> tuple[Sentence, ...]:
    """What each comparison can detect before the run, and what a gap of the equivalence margin takes."""
    spread = spread_of(behavior, judging, previewed=previewed)
    tested = {"alpha": judging.alpha, "comparisons": family(judging, pairs), "power": POWER}
    said = [
        sentence
        for design in designs(judging, pairs, spread=spread.nats)
        for sentence in _said(design, judging.delta_nats, tested)
    ]
    return (spread.source, *said) if said else ()


def _said(design: Design, delta: float, tested: dict[str, float]) -> Iterator[Sentence]:
    words: dict[str, float | str] = {"group": design.group, "clusters": design.clusters, "by": design.by}
    if design.effect is None or design.names_needed is None:
        yield say("power.none", **words, needed=design.fewest)
        return
    yield say("power.now", **words, **tested, names=design.names, effect=design.effect, unit="nats")
    if design.effect > delta:
        yield say("power.more", group=design.group, effect=delta, unit="nats", names=design.names_needed)
