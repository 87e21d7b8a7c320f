"""Intersections: the gap within each stratum of an attribute (women, men), and how it differs between them."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from audit_service.domain.behaviors import Behavior
from audit_service.domain.cells import gap
from audit_service.domain.contrasts import Contrast
from audit_service.domain.plan import Judging
from audit_service.domain.results import Result
from audit_service.domain.rows import row
from audit_service.domain.uncertainty import (
    Array,
    Clusters,
    Resampled,
    Statistic,
    Sums,
    fewest_clusters,
    generator,
    sign_flip,
)


def strata_rows(contrast: Contrast, *, behavior: Behavior, judging: Judging) -> Iterator[Result]:
    """Gap of each stratum and the interaction of each two; nothing where the attribute has one stratum only."""
    strata = _strata(contrast, behavior)
    names = sorted(set(strata) - {""})
    if len(names) < 2:
        return
    nats, labels = gap(contrast.table.d), np.array(strata)
    pairs = contrast.table.pairs
    for name in names:
        ours = labels == name
        clusters = Clusters.of([pair.cluster for pair, one in zip(pairs, ours, strict=True) if one])
        yield _gap(f"{contrast.key}.{name}.gap_nats", nats[ours], clusters, judging)
    columns = {part: values for name in names for part, values in _parts(name, labels, nats).items()}
    rng = generator(judging.seed, contrast.key, "strata")
    sample = Resampled.of(columns, contrast.clusters, rng=rng, resamples=judging.resamples)
    for one, other in combinations(names, 2):
        what = f"gap of {one} minus gap of {other}, outside the Holm family"
        interaction = sample.estimate(_interaction(one, other), alpha=judging.alpha, what=what)
        yield row(f"{contrast.key}.interaction.{one}.{other}", interaction, unit="nats", n=sample.clusters)


def _strata(contrast: Contrast, behavior: Behavior) -> list[str]:
    """The stratum of each pair; empty where the behavior does not declare its cues."""
    declared = {
        cue: stratum
        for attribute in behavior.attributes
        if attribute.name == contrast.attribute
        for group in attribute.groups.values()
        for stratum, cues in group.items()
        for cue in cues
    }
    return [
        stratum if (stratum := declared.get(pair.reference_cue, "")) == declared.get(pair.comparison_cue) else ""
        for pair in contrast.table.pairs
    ]


def _gap(key: str, nats: Array, clusters: Clusters, judging: Judging) -> Result:
    rng = generator(judging.seed, key)
    columns = {"n": np.ones(len(nats)), "gap": nats}
    sample = Resampled.of(columns, clusters, rng=rng, resamples=judging.resamples)
    what = "mean paired gap, outside the Holm family"
    estimate = sample.estimate(lambda sums: sums["gap"] / sums["n"], alpha=judging.alpha, what=what)
    p_value = None
    if clusters.count >= fewest_clusters(judging.alpha):
        p_value = float(sign_flip(sample.sums("gap")[:, None], rng=rng, resamples=judging.resamples).raw[0])
    return row(key, estimate, unit="nats", n=clusters.count, p_value=p_value)


def _parts(name: str, labels: np.ndarray, nats: Array) -> dict[str, Array]:
    ours = (labels == name).astype(np.float64)
    return {f"n {name}": ours, f"gap {name}": ours * nats}


def _interaction(one: str, other: str) -> Statistic:
    def difference(sums: Sums) -> Array:
        return sums[f"gap {one}"] / sums[f"n {one}"] - sums[f"gap {other}"] / sums[f"n {other}"]

    return difference
