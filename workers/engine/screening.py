"""Screening: estimates say where to look, exact patching measures there, and a random sample bounds what was missed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from audit_service.domain.labels import LabelTokens
from audit_service.errors import InvalidTrace
from workers.engine.answers import unpatched
from workers.engine.attribution import Estimator, attribute
from workers.engine.donors import Recording
from workers.engine.positions import Exchange
from workers.engine.progress import Keep, Progress, StopCheck, keep_nothing, never_stop, no_progress
from workers.engine.subject import Subject
from workers.engine.sweep import Map, measure


class Screened(NamedTuple):
    """Estimates of all effects, and exact effects of those that were verified; in nats."""

    estimated: NDArray[np.float32]
    """[exchange] an approximation, never to be reported as an effect."""
    verified: NDArray[np.intp]
    """Numbers of the exchanges that were patched exactly: first those with the largest estimates, then the sample."""
    exact: NDArray[np.float32]
    """[verified] measured effect."""
    sampled: int
    """How many of the verified ones, at the end, are the random sample of the rest."""
    missed_at_most: int
    """Upper confidence bound on how many exchanges with an effect of at least the threshold were left unpatched."""


def screen(
    subject: Subject,
    recipient: Recording,
    donor: Recording,
    exchanges: Sequence[Exchange],
    *,
    labels: LabelTokens,
    top: int,
    sample: int,
    threshold: float,
    seed: int,
    alpha: float = 0.05,
    estimator: Estimator = Estimator.FIRST_ORDER,
    keep: Keep = keep_nothing,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> Screened:
    """Estimate all effects, patch the ``top`` ones and ``sample`` of the others exactly, and bound what was missed.

    ``threshold`` (nats) says what would have been worth finding; the bound has confidence 1 - alpha over the seeds.
    """

    def estimate() -> NDArray[np.float32]:
        return attribute(subject, recipient, donor, exchanges, labels=labels, estimator=estimator)

    estimated = keep("estimates", estimate)
    order = np.argsort(-np.abs(estimated), kind="stable")
    drawn = drawn_from(order[top:], sample, seed)
    verified = np.concatenate([order[:top], drawn])
    chosen = Map("chosen", tuple(map(str, verified)), (), tuple((exchanges[number],) for number in verified))
    patched = measure(
        subject,
        [(recipient, donor)],
        [chosen],
        labels=labels,
        all_readouts=False,
        keep=keep,
        progress=progress,
        should_stop=should_stop,
    )
    exact = patched[chosen.name]["d"] - float(unpatched(subject, [recipient], labels))
    missed = missed_at_most(exact[top:], total=len(order[top:]), threshold=threshold, alpha=alpha)
    return Screened(estimated, verified, exact.astype(np.float32), len(drawn), missed)


def drawn_from(rest: NDArray[np.intp], sample: int, seed: int) -> NDArray[np.intp]:
    """Draw a random sample of the unverified, ascending."""
    return np.sort(np.random.default_rng(seed).choice(rest, size=min(sample, len(rest)), replace=False))


def missed_at_most(effects: NDArray[np.floating[Any]], *, total: int, threshold: float, alpha: float) -> int:
    """Bound how many of the ``total`` from which a sample was drawn, but outside it, reach the threshold.

    ``effects`` are those of the sample; where it is everything, nothing was missed. InvalidTrace for effects that are
    no finite numbers, of which nobody can say whether they reach it.
    """
    if not np.isfinite(effects).all():
        raise InvalidTrace(
            "effects in the sample are not finite numbers, so what was missed cannot be bounded",
            remedy="load the model in float32, or check its weights",
        )
    if not total:
        return 0
    seen = int((np.abs(effects) >= threshold).sum())
    return largest_count(total=total, drawn=len(effects), seen=seen, alpha=alpha) - seen


def largest_count(*, total: int, drawn: int, seen: int, alpha: float) -> int:
    """Exact one-sided confidence bound on how many of ``total`` are marked, when ``seen`` of ``drawn`` are.

    The largest count under which seeing at most that many has a probability above alpha (hypergeometric).
    """
    counts = np.arange(seen, total - (drawn - seen) + 1)
    return int(counts[hypergeom.cdf(seen, total, counts, drawn) > alpha].max())
