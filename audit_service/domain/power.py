"""How large a gap a design can detect, and how many clusters a wanted effect takes (METHOD.md section 3, point 8)."""

import math

from statsmodels.stats.power import TTestPower

from audit_service.domain.results import Sentence
from audit_service.domain.sentences import say
from audit_service.domain.uncertainty import fewest_clusters


def detectable(spread: float, *, clusters: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest mean gap that ``clusters`` (at least two) independent clusters detect, two-sided.

    ``spread`` is the standard deviation of the clusters' mean gaps, from a pilot or an earlier run, in the gap's unit.
    """
    return spread * float(TTestPower().solve_power(nobs=clusters, alpha=alpha, power=power))


def required_clusters(spread: float, *, effect: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Smallest number of clusters with which ``effect`` (> 0) is detected at that power, and a conclusion possible."""
    fewest = fewest_clusters(alpha)
    if spread == 0 or detectable(spread, clusters=fewest, alpha=alpha, power=power) <= effect:
        return fewest
    return math.ceil(float(TTestPower().solve_power(effect_size=effect / spread, alpha=alpha, power=power)))


def in_words(
    spread: float, *, clusters: int, wanted: float, unit: str = "nats", alpha: float = 0.05, power: float = 0.8
) -> tuple[Sentence, ...]:
    """What the design detects, and what the wanted effect takes if that is more."""
    effect = detectable(spread, clusters=clusters, alpha=alpha, power=power)
    now = say("power.now", clusters=clusters, effect=effect, unit=unit, alpha=alpha, power=power)
    if effect <= wanted:
        return (now,)
    needed = required_clusters(spread, effect=wanted, alpha=alpha, power=power)
    return now, say("power.more", effect=wanted, unit=unit, clusters=needed)
