"""What a pair set looks like to a model, seen on a sample before a plan is made."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from audit_service.domain.layouts import Layout
from audit_service.domain.manifest import Frozen
from audit_service.domain.pairs import Pair, PairKind


class SegmentTokens(Frozen):
    """How a segment falls into tokens on either side."""

    segment: str
    reference: tuple[str, ...]
    comparison: tuple[str, ...]


class PairPreview(Frozen):
    """One pair, as the model sees it."""

    pair_id: str
    segments: tuple[SegmentTokens, ...]
    d: tuple[float, float]
    """Decision value in nats: (reference, comparison)."""
    coverage: tuple[float, float]
    """Probability on the labels: (reference, comparison)."""


class FormPreview(Frozen):
    """What a form's sample says about the whole."""

    form: str
    pairs: int
    unequal_spans: float = Field(ge=0, le=1)
    """Share of pairs of which a segment has more tokens on one side than on the other."""
    coverage_mean: float
    coverage_min: float
    below_min_coverage: float = Field(ge=0, le=1)
    """Share of prompts that would not be measured."""
    saturated: float
    """Share of prompts with a probability below 1 % or above 99 %, where probability hides effects."""
    gap_spread: float | None = None
    """Standard deviation of the sampled clusters' mean gaps (nats), an upper guess of what all pairs of a cluster give;
    None with too few of them. It tells nothing of the gap itself."""
    layout: Layout | None = None
    """None in previews that were made before it was counted as it is now."""

    @field_validator("layout", mode="before")
    @classmethod
    def _counted_as_now(cls, stored: Any) -> Any:  # noqa: ANN401 - what a stored preview holds
        return None if isinstance(stored, dict) and "behind" in stored else stored


class Preview(Frozen):
    """Alignment and label coverage."""

    label_tokens: dict[str, tuple[tuple[int, ...], ...]]
    """Side of the decision ("favorable", "unfavorable") → token ids of each spelling; a classifier's class numbers."""
    forms: tuple[FormPreview, ...]
    examples: tuple[PairPreview, ...]
    """The first pairs of each form's sample, token by token."""


FEWEST = 6
"""Clusters below which their spread is not guessed."""


def gap_spread(pairs: Sequence[Pair], d: NDArray[np.floating]) -> float | None:
    """Standard deviation of the mean gaps of the contrast pairs' clusters, from decision values [pair, side]."""
    gaps = d[:, 0].astype(np.float64) - d[:, 1]
    by_cluster: dict[str, list[float]] = {}
    for pair, gap in zip(pairs, gaps.tolist(), strict=True):
        if pair.kind is PairKind.CONTRAST:
            by_cluster.setdefault(pair.cluster, []).append(gap)
    means = [fmean(of_cluster) for of_cluster in by_cluster.values()]
    return stdev(means) if len(means) >= FEWEST else None


def sample(pairs: tuple[Pair, ...], *, per_form: int) -> dict[str, list[Pair]]:
    """Form → at most ``per_form`` of its pairs, evenly spread over the set."""
    forms: dict[str, list[Pair]] = {}
    for pair in pairs:
        forms.setdefault(pair.form, []).append(pair)
    return {form: members[:: max(1, len(members) // per_form)][:per_form] for form, members in forms.items()}
