"""How large a gap a design can detect, and how many clusters a wanted effect takes (METHOD.md section 3, point 8)."""

import math
from collections.abc import Iterator, Sequence

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


def in_words(behavior: Behavior, judging: Judging, pairs: Sequence[Pair]) -> tuple[Sentence, ...]:
    """What each comparison can detect before the run, and what a gap of the equivalence margin takes.

    The forms ask the same names; what the first that has the comparison can detect is said. Where templates share
    names, whole cue pairs are what is independent. The judge corrects for all comparisons of the run (Holm), so
    alpha is divided by their number: what is detected so is detected by Holm's correction too (Bonferroni's bound).
    """
    spread = judging.pilot.spread_nats if judging.pilot else behavior.threshold.gap_nats
    source = (
        say("power.declared", spread=spread, source=judging.pilot.source)
        if judging.pilot
        else say("power.assumed", spread=spread)
    )
    contrast = [pair for pair in pairs if pair.kind is PairKind.CONTRAST]
    groups = dict.fromkeys((pair.attribute, pair.comparison_group) for pair in contrast)
    family = len({(pair.form, pair.attribute, pair.comparison_group) for pair in contrast})
    said = [
        one
        for attribute, group in groups
        for one in _of_group(contrast, attribute, group, spread=spread, family=family, judging=judging)
    ]
    return (source, *said) if said else ()


def _of_group(
    pairs: Sequence[Pair], attribute: str, group: str, *, spread: float, family: int, judging: Judging
) -> Iterator[Sentence]:
    ours = [pair for pair in pairs if (pair.attribute, pair.comparison_group) == (attribute, group)]
    ours = [pair for pair in ours if pair.form == ours[0].form]
    by = Unit.CUES if len(units(ours, alpha=judging.alpha)) > 1 else Unit.CLUSTER
    clusters = len({independent(pair, by) for pair in ours})
    names = len({cue for pair in ours for cue in (pair.reference_cue, pair.comparison_cue)})
    words: dict[str, float | str] = {
        "group": group,
        "clusters": clusters,
        "by": "cue pairs" if by is Unit.CUES else "clusters",
    }
    alpha, fewest = judging.alpha / family, fewest_clusters(judging.alpha / family)
    if clusters < fewest:
        yield say("power.none", **words, needed=fewest)
        return
    effect = detectable(spread, clusters=clusters, alpha=alpha)
    tested = {"alpha": judging.alpha, "comparisons": family, "power": POWER}
    yield say("power.now", **words, **tested, names=names, effect=effect, unit="nats")
    if effect > judging.delta_nats:
        needed = required_clusters(spread, effect=judging.delta_nats, alpha=alpha)
        more = math.ceil(needed * names / clusters)
        yield say("power.more", group=group, effect=judging.delta_nats, unit="nats", names=more)
