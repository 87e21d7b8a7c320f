"""Robustness: whether the verdict and the leading site stay the same under the other declared specifications.

Everything is read again from the kept cells. Metric, unit of resampling and prompts bear on the verdict; direction,
metric and prompts on the site that is said to lead.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from audit_service.domain.cells import Cells, DecisionTable, EffectTable, Mask
from audit_service.domain.contrasts import contrasts
from audit_service.domain.disparity import assess, unit_of
from audit_service.domain.metrics import METRICS
from audit_service.domain.pairs import Pair
from audit_service.domain.plan import Judging, Plan, Robustness, Unit
from audit_service.domain.readings import Reading
from audit_service.domain.results import LintFinding, Verdict, VerdictValue
from audit_service.domain.uncertainty import generator
from audit_service.domain.verdict import behavior_verdict, form_verdict, judge_contrasts

RESAMPLES = 1000
"""For parts of the prompts, which are many; all prompts are judged with the plan's own number."""


class Specification(NamedTuple):
    """One way to judge the same cells."""

    reading: Reading
    unit: Unit
    part: int
    """0 for all prompts, else the number of the random part."""

    @property
    def name(self) -> str:
        prompts = "all prompts" if self.part == 0 else f"part {self.part} of the prompts"
        return f"{self.reading.replace('_', '-')}, by {self.unit}, {prompts}"


def specifications(robustness: Robustness) -> tuple[Specification, ...]:
    """The declared grid."""
    return tuple(
        Specification(reading, unit, part)
        for reading in robustness.readings
        for unit in robustness.units
        for part in range(robustness.prompt_resamples + 1)
    )


def robust(
    verdicts: Sequence[Verdict], *, plan: Plan, decisions: DecisionTable, protocol: Sequence[LintFinding]
) -> tuple[Verdict, ...]:
    """The verdicts, each with the share of the specifications that give the same and the names of those that do not.

    The behavior's verdict is also compared with that of each form alone.
    """
    grid = [(spec.name, _values(spec, plan, decisions, protocol)) for spec in specifications(plan.judging.robustness)]
    alone = [(f"form {verdict.scope} alone", verdict.value) for verdict in verdicts if verdict.scope != "behavior"]
    return tuple(
        _with_share(
            verdict,
            [(name, values[verdict.scope]) for name, values in grid]
            + (alone if verdict.scope == "behavior" and len(alone) > 1 else []),
        )
        for verdict in verdicts
    )


def _with_share(verdict: Verdict, others: Sequence[tuple[str, VerdictValue]]) -> Verdict:
    changed = tuple(name for name, value in others if value is not verdict.value)
    share = None if not others else 1 - len(changed) / len(others)
    return verdict.model_copy(update={"share_unchanged": share, "changed_by": changed})


def _values(
    spec: Specification, plan: Plan, decisions: DecisionTable, protocol: Sequence[LintFinding]
) -> dict[str, VerdictValue]:
    """Scope → verdict under one specification."""
    judging = plan.judging if spec.part == 0 else plan.judging.model_copy(update={"resamples": RESAMPLES})
    kept = decisions.select(_part(decisions.pairs, spec.part, judging))
    found = contrasts(kept, plan.behavior)
    metric = METRICS[spec.reading]
    assessments = []
    for contrast in found:
        unit = unit_of(contrast, spec.unit, alpha=judging.alpha)
        assessments.append(assess(contrast, behavior=plan.behavior, judging=judging, metric=metric, unit=unit))
    judged = judge_contrasts(assessments, alpha=judging.alpha)
    forms = [
        form_verdict(form, [one for one in judged if one.assessment.form == form], protocol)
        for form in dict.fromkeys(contrast.form for contrast in found)
    ]
    return {verdict.scope: verdict.value for verdict in (*forms, behavior_verdict(forms))}


def _part(pairs: Sequence[Pair], part: int, judging: Judging) -> Mask:
    """Which pairs belong to the random part of the clusters; every cluster in part 0."""
    if part == 0:
        return np.ones(len(pairs), dtype=bool)
    clusters = sorted({pair.cluster for pair in pairs})
    count = round(judging.robustness.kept_share * len(clusters))
    drawn = generator(judging.seed, "part", str(part)).permutation(len(clusters))[:count]
    kept = {clusters[index] for index in drawn}
    return np.array([pair.cluster in kept for pair in pairs], dtype=bool)


@dataclass(frozen=True, slots=True)
class LeadingSite:
    """The site with the largest effect of a form, and how often it leads."""

    site: str
    share: float
    specifications: int
    others: tuple[str, ...]
    """Sites that lead elsewhere, most frequent first."""


def leading_site(tables: Sequence[EffectTable], judging: Judging) -> LeadingSite | None:
    """Which site leads in one form under each direction, metric and part of the prompts.

    ``tables`` hold the measured contrast pairs, one table per direction; the first is the reference.
    """
    leaders = [leader for table in tables for leader in _leaders(table, judging)]
    if not leaders:
        return None
    first = leaders[0]
    names, counts = np.unique([leader for leader in leaders if leader != first], return_counts=True)
    others = tuple(str(names[index]) for index in np.argsort(-counts, kind="stable"))
    return LeadingSite(first, leaders.count(first) / len(leaders), len(leaders), others)


def _leaders(table: EffectTable, judging: Judging) -> Iterator[str]:
    parts = range(judging.robustness.prompt_resamples + 1)
    kept = np.array([_part(table.pairs, part, judging) for part in parts]).astype(np.float64)
    for effects in _effects(table):
        for means in (kept @ effects.astype(np.float64))[kept.any(axis=1)]:
            yield table.sites[int(np.argmax(np.abs(means)))].key


def _effects(table: EffectTable) -> Iterator[Cells]:
    """[pair, site] effects in log-odds and in probability: what one table of decision values tells."""
    yield table.effects
    yield expit(table.patched) - expit(table.patched - table.effects)
