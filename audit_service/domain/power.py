"""How large a gap a design can detect, and how many clusters a wanted effect takes (METHOD.md section 3, point 8)."""

import math

from scipy import stats

from audit_service.domain.results import Sentence
from audit_service.domain.sentences import say


def detectable(spread: float, *, clusters: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest mean gap that ``clusters`` independent clusters detect, two-sided.

    ``spread`` is the standard deviation of the clusters' mean gaps, from a pilot or an earlier run, in the gap's unit.
    """
    return _reach(clusters, alpha, power) * spread / math.sqrt(clusters)


def required_clusters(spread: float, *, effect: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Smallest number of clusters with which ``effect`` (> 0) is detected at that power."""
    clusters = max(2, math.floor((_normal_reach(alpha, power) * spread / effect) ** 2))
    while detectable(spread, clusters=clusters, alpha=alpha, power=power) > effect:
        clusters += 1
    return clusters


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


def _reach(clusters: int, alpha: float, power: float) -> float:
    """Standard errors between zero and a detectable effect: Student's quantiles of both kinds of error."""
    freedom = clusters - 1
    return float(stats.t.ppf(1 - alpha / 2, freedom) + stats.t.ppf(power, freedom))


def _normal_reach(alpha: float, power: float) -> float:
    return float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power))
