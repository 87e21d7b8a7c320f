"""Robustness: whether the verdict and the leading site stay the same under the other declared specifications.

Everything is read again from the kept cells. Metric, unit of resampling and prompts bear on the verdict; direction,
corruption, metric and prompts on the site that is said to lead.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from audit_service.domain.cells import DecisionTable, EffectTable, Mask
from audit_service.domain.contrasts import Contrast, contrasts
from audit_service.domain.disparity import assess, unit_of
from audit_service.domain.metrics import LOG_ODDS, Metric, metric_of
from audit_service.domain.pairs import Pair
from audit_service.domain.plan import Corruption, Judging, Plan, Robustness, Unit
from audit_service.domain.results import LintFinding, Verdict, VerdictValue
from audit_service.domain.uncertainty import generator
from audit_service.domain.verdict import behavior_verdict, form_verdict, judge_contrasts

RESAMPLES = 1000
"""For parts of the prompts, which are many; all prompts are judged with the plan's own number."""


class Specification(NamedTuple):
    """One way to judge the same cells."""

    metric: str
    unit: Unit
    part: int
    """0 for all prompts, else the number of the random part."""

    @property
    def name(self) -> str:
        return f"{self.metric}, by {self.unit}, {_prompts(self.part)}"


def _prompts(part: int) -> str:
    return "all prompts" if part == 0 else f"part {part} of the prompts"


def specifications(metrics: Iterable[str], robustness: Robustness) -> tuple[Specification, ...]:
    """The declared grid."""
    return tuple(
        Specification(metric, unit, part)
        for metric in metrics
        for unit in robustness.units
        for part in range(robustness.prompt_resamples + 1)
    )


def robust(
    verdicts: Sequence[Verdict], *, plan: Plan, decisions: DecisionTable, protocol: Sequence[LintFinding]
) -> tuple[Verdict, ...]:
    """The verdicts, each with the share of the specifications that give the same and the names of those that do not.

    A part of the prompts on which a metric has no threshold gives no verdict and does not count. The behavior's verdict
    is also compared with that of each form alone.
    """
    metrics = {metric.name: metric for metric in judging_metrics(plan, decisions)}
    grid = [
        (spec.name, _values(spec, metrics[spec.metric], plan, decisions, protocol))
        for spec in specifications(metrics, plan.judging.robustness)
    ]
    alone = [(f"form {verdict.scope} alone", verdict.value) for verdict in verdicts if verdict.scope != "behavior"]
    return tuple(
        _with_share(
            verdict,
            [(name, values[verdict.scope]) for name, values in grid if verdict.scope in values]
            + (alone if verdict.scope == "behavior" and len(alone) > 1 else []),
        )
        for verdict in verdicts
    )


def judging_metrics(plan: Plan, decisions: DecisionTable) -> Iterator[Metric]:
    """The plan's metrics under which a verdict can be given: read in this run, and with a threshold in their unit."""
    found = [contrast for contrast in contrasts(decisions, plan.behavior) if contrast.table.pairs]
    for definition in plan.metrics:
        metric = metric_of(definition, plan.behavior)
        if metric.knows(decisions) and _has_margins(metric, found, plan):
            yield metric


def _has_margins(metric: Metric, found: Sequence[Contrast], plan: Plan) -> bool:
    limits = {"threshold": plan.behavior.threshold.gap_nats, "delta": plan.judging.delta_nats}
    return all(metric.margins(contrast.table, **limits) for contrast in found)


def _with_share(verdict: Verdict, others: Sequence[tuple[str, VerdictValue]]) -> Verdict:
    changed = tuple(name for name, value in others if value is not verdict.value)
    share = None if not others else 1 - len(changed) / len(others)
    return verdict.model_copy(update={"share_unchanged": share, "changed_by": changed})


def _values(
    spec: Specification, metric: Metric, plan: Plan, decisions: DecisionTable, protocol: Sequence[LintFinding]
) -> dict[str, VerdictValue]:
    """Scope → verdict under one specification; nothing where the metric has no threshold on these prompts."""
    judging = plan.judging if spec.part == 0 else plan.judging.model_copy(update={"resamples": RESAMPLES})
    kept = decisions.select(_part(decisions.pairs, spec.part, judging))
    found = contrasts(kept, plan.behavior)
    if not _has_margins(metric, found, plan):
        return {}
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
    changed_by: tuple[str, ...]
    """The specifications in which another site leads."""


def leading_site(tables: Sequence[EffectTable], plan: Plan) -> LeadingSite | None:
    """Which site leads in one form under each direction, corruption, metric and part of the prompts.

    ``tables`` hold the measured contrast pairs, one table per direction and corruption. The reference is the pair
    itself by log-odds, whatever the order in which corruptions and metrics are declared. A specification in which no
    site has an effect has no leader and does not count.
    """
    ordered = sorted(tables, key=lambda table: table.corruption is not Corruption.PAIR)
    leaders = [leader for table in ordered for leader in _leaders(table, plan)]
    if not leaders:
        return None
    first = leaders[0][1]
    elsewhere = [(name, site) for name, site in leaders if site != first]
    names, counts = np.unique([site for _, site in elsewhere], return_counts=True)
    others = tuple(str(names[index]) for index in np.argsort(-counts, kind="stable"))
    share = 1 - len(elsewhere) / len(leaders)
    return LeadingSite(first, share, len(leaders), others, tuple(name for name, _ in elsewhere))


def _leaders(table: EffectTable, plan: Plan) -> Iterator[tuple[str, str]]:
    """Specification and leading site, by log-odds first."""
    for definition in sorted(plan.metrics, key=lambda metric: metric.name != LOG_ODDS.name):
        read = metric_of(definition, plan.behavior).under(table)
        if read is None or not read.pairs or not read.sites:
            continue
        effects = read.effects.astype(np.float64)
        for part in range(plan.judging.robustness.prompt_resamples + 1):
            kept = _part(read.pairs, part, plan.judging)
            sizes = np.abs(kept.astype(np.float64) @ effects)
            if sizes.max() > 0:
                name = f"{table.direction}, {table.corruption}, {definition.name}, {_prompts(part)}"
                yield name, read.sites[int(np.argmax(sizes))].key
