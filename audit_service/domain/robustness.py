"""Robustness: whether the verdict and the leading site stay the same under the other declared specifications.

A specification is metric x direction x corruption x form x prompts (METHOD.md section 6), and the unit of resampling.
Everything is read again from the kept cells. What a choice cannot change is not counted under it: the verdict rests on
untouched decisions, so metric, unit, form and prompts bear on it; direction and corruption bear on the traces alone,
and with metric and prompts on the site that is said to lead. The specification that verdict or leading site rest on
itself is not counted either.
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
from audit_service.domain.results import LintFinding, Result, Verdict, VerdictValue
from audit_service.domain.rows import count, plain
from audit_service.domain.uncertainty import generator
from audit_service.domain.verdict import Judged, behavior_verdict, form_verdict, judge_contrasts

RESAMPLES = 1000
"""For parts of the prompts, which are many; all prompts are judged with the plan's own number."""
BEHAVIOR = "behavior"
"""The scope of the verdict over all forms."""


class Specification(NamedTuple):
    """One way to judge the same cells."""

    metric: str
    unit: Unit
    part: int
    """0 for all prompts, else the number of the random part."""
    form: str | None = None
    """The form that stands for the whole behavior; None for all of them, or where the verdict is a form's own."""

    @property
    def name(self) -> str:
        alone = [] if self.form is None else [f"form {self.form} alone"]
        return ", ".join([self.metric, f"by {self.unit}", _prompts(self.part), *alone])

    @property
    def choices(self) -> tuple[str, ...]:
        """What is chosen, choice by choice."""
        form = () if self.form is None else (f"form.{self.form}",)
        return (f"metric.{self.metric}", f"unit.{self.unit}", _prompts_chosen(self.part), *form)


def _prompts(part: int) -> str:
    return "all prompts" if part == 0 else f"part {part} of the prompts"


def _prompts_chosen(part: int) -> str:
    return "prompts.all" if part == 0 else "prompts.parts"


class Regiven(NamedTuple):
    """What one specification gives."""

    choices: tuple[str, ...]
    name: str
    same: bool


class Robust(NamedTuple):
    """Verdicts with their shares, and the shares choice by choice as rows."""

    verdicts: tuple[Verdict, ...]
    rows: tuple[Result, ...]


def specifications(metrics: Iterable[str], robustness: Robustness) -> tuple[Specification, ...]:
    """The declared grid over all forms."""
    return tuple(
        Specification(metric, unit, part)
        for metric in metrics
        for unit in robustness.units
        for part in range(robustness.prompt_resamples + 1)
    )


def robust(
    verdicts: Sequence[Verdict],
    *,
    judged: Sequence[Judged],
    plan: Plan,
    decisions: DecisionTable,
    protocol: Sequence[LintFinding],
) -> Robust:
    """The verdicts, each with the share of the other specifications that give the same, and the names of the rest.

    A part of the prompts on which a metric has no threshold gives no verdict and does not count.
    """
    metrics = {metric.name: metric for metric in judging_metrics(plan, decisions)}
    given: dict[str, dict[Specification, VerdictValue]] = {verdict.scope: {} for verdict in verdicts}
    forms = [verdict.scope for verdict in verdicts if verdict.scope != BEHAVIOR]
    for wanted in specifications(metrics, plan.judging.robustness):
        values = _values(wanted, metrics[wanted.metric], plan, decisions, protocol)
        for scope, (spec, value) in values.items():
            given[scope][spec] = value
            if scope in forms and len(forms) > 1 and BEHAVIOR in given:
                given[BEHAVIOR][spec._replace(form=scope)] = value
    others = {
        verdict.scope: [
            Regiven(spec.choices, spec.name, value is verdict.value)
            for spec, value in given[verdict.scope].items()
            if spec != _own(verdict.scope, judged)
        ]
        for verdict in verdicts
    }
    return Robust(
        tuple(_with_share(verdict, others[verdict.scope]) for verdict in verdicts),
        tuple(one for scope, found in others.items() for one in _rows(f"{scope}.verdict_share", found, "verdict")),
    )


def _own(scope: str, judged: Sequence[Judged]) -> Specification | None:
    """What the verdict itself rests on; None where one contrast rests on clusters and another on cue pairs."""
    ours = [one for one in judged if scope in {BEHAVIOR, one.assessment.form}]
    units = {Unit.CLUSTER if one.deciding is one.assessment else Unit.CUES for one in ours}
    return Specification(LOG_ODDS.name, units.pop(), 0) if len(units) == 1 else None


def _rows(key: str, others: Sequence[Regiven], what: str) -> Iterator[Result]:
    """How many other specifications there are, and of those with each choice the share that gives the same."""
    yield count(f"{key}.specifications", len(others), f"other specifications that bear on the {what}")
    for choice in dict.fromkeys(choice for one in others for choice in one.choices):
        ours = [one.same for one in others if choice in one.choices]
        method = f"share of {len(ours)} other specifications with this choice that give the same {what}"
        yield plain(f"{key}.{choice}", sum(ours) / len(ours), unit="share", method=method)


def judging_metrics(plan: Plan, decisions: DecisionTable) -> Iterator[Metric]:
    """The plan's metrics under which a verdict can be given: read in this run, and with a threshold in their unit.

    Of metrics with the same formula and tolerance the first stands for all: the others cannot say anything else.
    """
    found = [contrast for contrast in contrasts(decisions, plan.behavior) if contrast.table.pairs]
    seen = set()
    for definition in plan.metrics:
        metric = metric_of(definition, plan.behavior)
        same = definition.formula, definition.tolerance
        if same not in seen and metric.knows(decisions) and _has_margins(metric, found, plan):
            seen.add(same)
            yield metric


def _has_margins(metric: Metric, found: Sequence[Contrast], plan: Plan) -> bool:
    limits = {"threshold": plan.behavior.threshold.gap_nats, "delta": plan.judging.delta_nats}
    return all(metric.margins(contrast.table, **limits) for contrast in found)


def _with_share(verdict: Verdict, others: Sequence[Regiven]) -> Verdict:
    changed = tuple(one.name for one in others if not one.same)
    share = None if not others else 1 - len(changed) / len(others)
    return verdict.model_copy(update={"share_unchanged": share, "changed_by": changed})


def _values(
    spec: Specification, metric: Metric, plan: Plan, decisions: DecisionTable, protocol: Sequence[LintFinding]
) -> dict[str, tuple[Specification, VerdictValue]]:
    """Scope → verdict under one specification; nothing where the metric has no threshold on these prompts.

    Where cue pairs are no fewer than the clusters, or too few, they are no other unit: the specification is then the
    one by clusters. The same holds for a part that keeps every cluster.
    """
    judging = plan.judging if spec.part == 0 else plan.judging.model_copy(update={"resamples": RESAMPLES})
    kept = decisions.select(_part(decisions.pairs, spec.part, judging))
    found = contrasts(kept, plan.behavior)
    if not _has_margins(metric, found, plan):
        return {}
    part = 0 if len(kept.pairs) == len(decisions.pairs) else spec.part
    units = {contrast.key: unit_of(contrast, spec.unit, alpha=judging.alpha) for contrast in found}
    assessments = [
        assess(contrast, behavior=plan.behavior, judging=judging, metric=metric, unit=units[contrast.key])
        for contrast in found
    ]
    judged = judge_contrasts(assessments, alpha=judging.alpha, others=judging.comparisons_elsewhere)
    forms = [
        form_verdict(form, [one for one in judged if one.assessment.form == form], protocol)
        for form in dict.fromkeys(contrast.form for contrast in found)
    ]
    given = {}
    for verdict in (*forms, behavior_verdict(forms)):
        ours = {units[contrast.key] for contrast in found if verdict.scope in {BEHAVIOR, contrast.form}}
        unit = Unit.CUES if Unit.CUES in ours else Unit.CLUSTER
        given[verdict.scope] = spec._replace(unit=unit, part=part), verdict.value
    return given


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
    """Of the other specifications: the one that says which site leads is not counted."""
    specifications: int
    """How many others there are."""
    others: tuple[str, ...]
    """Sites that lead elsewhere, most frequent first."""
    changed_by: tuple[str, ...]
    """The specifications in which another site leads."""
    rows: tuple[Result, ...]
    """The share choice by choice."""


def leading_site(tables: Sequence[EffectTable], plan: Plan) -> LeadingSite | None:
    """Which site leads in one form under each direction, corruption, metric and part of the prompts.

    ``tables`` hold the measured contrast pairs, one table per direction and corruption. The reference is the pair
    itself by log-odds, whatever the order in which corruptions and metrics are declared. A specification in which no
    site has an effect has no leader and does not count. None where there is no other specification to compare with.
    """
    ordered = sorted(tables, key=lambda table: table.corruption is not Corruption.PAIR)
    leaders = [leader for table in ordered for leader in _leaders(table, plan)]
    if len(leaders) < 2:
        return None
    first = leaders[0].site
    others = [Regiven(one.choices, one.name, one.site == first) for one in leaders[1:]]
    changed = tuple(one.name for one in others if not one.same)
    names, counts = np.unique([one.site for one in leaders if one.site != first], return_counts=True)
    return LeadingSite(
        first,
        1 - len(changed) / len(others),
        len(others),
        tuple(str(names[index]) for index in np.argsort(-counts, kind="stable")),
        changed,
        tuple(_rows(f"{ordered[0].form}.leading_site_share", others, "leading site")),
    )


class _Leader(NamedTuple):
    name: str
    choices: tuple[str, ...]
    site: str


def _leaders(table: EffectTable, plan: Plan) -> Iterator[_Leader]:
    """The leading site of each specification, by log-odds first."""
    for definition in sorted(plan.metrics, key=lambda metric: metric.name != LOG_ODDS.name):
        read = metric_of(definition, plan.behavior).under(table)
        if read is None or not read.pairs or not read.sites:
            continue
        effects = read.effects.astype(np.float64)
        for part in range(plan.judging.robustness.prompt_resamples + 1):
            kept = _part(read.pairs, part, plan.judging)
            sizes = np.abs(kept.astype(np.float64) @ effects)
            if sizes.max() > 0 and not (part and kept.all()):
                chosen = f"direction.{table.direction}", f"corruption.{table.corruption}", f"metric.{definition.name}"
                name = f"{table.direction}, {table.corruption}, {definition.name}, {_prompts(part)}"
                site = read.sites[int(np.argmax(sizes))].key
                yield _Leader(name, (*chosen, _prompts_chosen(part)), site)
