"""Contrasts: the pairs of one comparison group against the reference group in one form, and what they add up to."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import expit

from audit_service.domain.behaviors import Behavior
from audit_service.domain.cells import COMPARISON, REFERENCE, DecisionTable, gap
from audit_service.domain.metrics import LOG_ODDS, Metric
from audit_service.domain.pairs import Pair, PairKind
from audit_service.domain.plan import Unit
from audit_service.domain.uncertainty import Array, Clusters, fewest_clusters


@dataclass(frozen=True)
class Contrast:
    """One comparison group against the reference group in one form."""

    form: str
    attribute: str
    group: str
    reference: str
    asked: DecisionTable
    """Every pair of the contrast, measured or not."""
    table: DecisionTable
    """The measured pairs."""

    @property
    def key(self) -> str:
        return f"{self.form}.{self.attribute}.{self.group}"

    @property
    def not_measured(self) -> int:
        return len(self.asked.pairs) - len(self.table.pairs)

    @cached_property
    def clusters(self) -> Clusters:
        return Clusters.of([pair.cluster for pair in self.table.pairs])


def contrasts(decisions: DecisionTable, behavior: Behavior) -> tuple[Contrast, ...]:
    """Every declared comparison group in every form, with or without pairs; then what only the pairs name."""
    declared = [
        (form.name, attribute.name, attribute.reference, group)
        for form in behavior.forms
        for attribute in behavior.attributes
        for group in attribute.groups
        if group != attribute.reference
    ]
    undeclared = [_contrast_of(pair) for pair in decisions.pairs if pair.kind is PairKind.CONTRAST]
    wanted = list(dict.fromkeys([*declared, *undeclared]))
    references = {attribute.name: attribute.reference for attribute in behavior.attributes}
    names = np.array([_contrast_of(pair) for pair in decisions.pairs], dtype=object).reshape(len(decisions.pairs), 4)
    measured = decisions.measured(min_coverage=behavior.min_coverage)
    found = []
    for form, attribute, reference, group in wanted:
        ours = (names == (form, attribute, reference, group)).all(axis=1)
        label = group if references.get(attribute, reference) == reference else f"{group}~{reference}"
        found.append(
            Contrast(
                form, attribute, label, reference, asked=decisions.select(ours), table=decisions.select(ours & measured)
            )
        )
    return tuple(found)


def placebo(decisions: DecisionTable, behavior: Behavior, form: str) -> DecisionTable:
    """The measured placebo pairs of a form."""
    ours = np.array([pair.form == form and pair.kind is PairKind.PLACEBO for pair in decisions.pairs], dtype=bool)
    return decisions.select(ours & decisions.measured(min_coverage=behavior.min_coverage))


def independent(pair: Pair, unit: Unit) -> str:
    """The label that the pair shares with those it is not independent of."""
    return pair.cluster if unit is Unit.CLUSTER else f"{pair.reference_cue}~{pair.comparison_cue}"


def units(pairs: Sequence[Pair], *, alpha: float) -> list[Clusters]:
    """Everything by which the pairs must be told from chance: clusters, and whole cue pairs where these are fewer.

    Clusters that share cues across templates are not independent of each other. Cue pairs too few for a conclusion are
    left out: what is found then holds for these cues only.
    """
    clusters, cues = (Clusters.of([independent(pair, unit) for pair in pairs]) for unit in (Unit.CLUSTER, Unit.CUES))
    return [clusters, cues] if fewest_clusters(alpha) <= cues.count < clusters.count else [clusters]


def _contrast_of(pair: Pair) -> tuple[str, str, str, str]:
    return pair.form, pair.attribute, pair.reference_group, pair.comparison_group


def columns(table: DecisionTable, *, cut: float, metric: Metric = LOG_ODDS) -> dict[str, Array]:
    """What each pair adds to the sums that the statistics are functions of."""
    d = table.d.astype(np.float64)
    approved = (d > cut).astype(np.float64)
    difference = gap(metric.value(table))
    reference, comparison = approved[:, REFERENCE], approved[:, COMPARISON]
    return {
        "n": np.ones(len(d)),
        "gap": difference,
        "gap_squared": np.square(difference),
        "gap_absolute": np.abs(difference),
        "gap_pp": 100 * gap(expit(d)),
        "reference": reference,
        "comparison": comparison,
        "lost": reference * (1 - comparison),
        "gained": comparison * (1 - reference),
    }
