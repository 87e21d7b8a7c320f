"""The judge: from the cells of a run to everything that its report prints. Pure; the plan's seeds decide all chance."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from audit_service.domain.cells import DecisionTable, EffectTable, Mask
from audit_service.domain.contrasts import Contrast, contrasts
from audit_service.domain.decision_rows import attribute_rows, contrast_rows, form_rows
from audit_service.domain.disparity import assess
from audit_service.domain.effect_rows import (
    asymmetry_rows,
    asymmetry_statements,
    effect_rows,
    named_sites,
    prefix,
    site_rows,
    statement,
    untraced,
)
from audit_service.domain.effects import SiteEffects, site_effects
from audit_service.domain.interplay import Asymmetry, asymmetries
from audit_service.domain.pairs import PairKind
from audit_service.domain.plan import Direction, Plan
from audit_service.domain.protocol import Preview, lint_plan, lint_results
from audit_service.domain.results import Judgement, Result, Sentence
from audit_service.domain.rows import count, row
from audit_service.domain.sentences import say
from audit_service.domain.trace import Control
from audit_service.domain.verdict import Judged, behavior_verdict, form_verdict, judge_contrasts
from audit_service.errors import ControlFailed


def judge(
    plan: Plan, decisions: DecisionTable, effects: Sequence[EffectTable], controls: Sequence[Control]
) -> Judgement:
    """Numbers, sentences and verdict of one run. Cells that are missing or failed (NaN) are counted, never filled in.

    Raises ControlFailed if a control of the run failed: it is never averaged away.
    """
    _refuse_failed(controls)
    judged = _judged(plan, decisions)
    traced = [_traced(plan, table, decisions) for table in effects]
    asymmetric = list(_asymmetries(plan, traced))
    rows = (
        *_decision_rows(plan, decisions, judged),
        *(one for part in traced for one in _trace_rows(plan, part)),
        *(one for table, found in asymmetric for one in asymmetry_rows(table.form, table, found)),
    )
    protocol = (
        *lint_plan(plan, decisions.pairs, Preview.of(decisions)),
        *lint_results(plan, decisions, judged=[one for _, one in judged], rows=rows, controls=controls),
    )
    forms = tuple(
        form_verdict(form, [one for contrast, one in judged if contrast.form == form], protocol)
        for form in dict.fromkeys(contrast.form for contrast, _ in judged)
    )
    statements = (
        *_disparity_statements(judged, rows),
        *(_trace_statement(plan, part) for part in traced),
        *(one for table, found in asymmetric for one in asymmetry_statements(table.form, table, found)),
    )
    return Judgement(
        verdict=behavior_verdict(forms),
        forms=forms,
        results=rows,
        protocol=tuple(sorted(protocol, key=lambda finding: finding.rule)),
        controls=tuple(controls),
        statements=statements,
    )


def _refuse_failed(controls: Sequence[Control]) -> None:
    if failed := [control for control in controls if not control.passed]:
        raise ControlFailed(
            "The run cannot be judged, because a control failed.",
            remedy="Find out why before trusting any number of this run; then trace it again.",
            details=[f"{control.name}: {control.measured:g}, allowed {control.tolerance:g}" for control in failed],
        )


def _judged(plan: Plan, decisions: DecisionTable) -> list[tuple[Contrast, Judged]]:
    behavior, judging = plan.behavior, plan.judging
    found = contrasts(decisions, behavior)
    assessments = [assess(contrast, behavior=behavior, judging=judging) for contrast in found]
    return list(zip(found, judge_contrasts(assessments, alpha=judging.alpha), strict=True))


def _decision_rows(plan: Plan, decisions: DecisionTable, judged: Sequence[tuple[Contrast, Judged]]) -> Iterator[Result]:
    for contrast, one in judged:
        yield from contrast_rows(contrast, one, decisions=decisions, behavior=plan.behavior, judging=plan.judging)
    yield from attribute_rows(judged)
    for form in dict.fromkeys(contrast.form for contrast, _ in judged):
        yield from form_rows(decisions, form, behavior=plan.behavior, judging=plan.judging)


@dataclass(frozen=True, slots=True)
class Traced:
    """The measured part of one form and direction of the traces."""

    table: EffectTable
    """As it came, measured or not."""
    contrast: EffectTable
    placebo: EffectTable
    effects: SiteEffects | None
    """None without a measured contrast pair."""


def _traced(plan: Plan, table: EffectTable, decisions: DecisionTable) -> Traced:
    measured = decisions.measured(min_coverage=plan.behavior.min_coverage)
    known = {pair.id for pair, kept in zip(decisions.pairs, measured, strict=True) if kept}
    kept = table.finite() & np.array([pair.id in known for pair in table.pairs], dtype=bool)
    contrast, placebo = (table.select(kept & _of_kind(table, kind)) for kind in (PairKind.CONTRAST, PairKind.PLACEBO))
    return Traced(table, contrast, placebo, _effects(plan, contrast) if contrast.pairs else None)


def _effects(plan: Plan, table: EffectTable) -> SiteEffects:
    judging = plan.judging
    return site_effects(table, alpha=judging.alpha, resamples=judging.resamples, seed=judging.seed)


def _trace_rows(plan: Plan, part: Traced) -> Iterator[Result]:
    key = prefix(part.table)
    lost = len(part.table.pairs) - len(part.contrast.pairs) - len(part.placebo.pairs)
    yield count(
        f"{key}.pairs_not_measured", lost, "traced pairs without a measured decision or with a cell that is no number"
    )
    if part.effects is None:
        return
    yield from effect_rows(part.effects, key=key, placebo=part.placebo, judging=plan.judging)
    groups = {(pair.attribute, pair.comparison_group) for pair in part.contrast.pairs}
    for attribute, group in sorted(groups) if len(groups) > 1 else ():
        ours = [(pair.attribute, pair.comparison_group) == (attribute, group) for pair in part.contrast.pairs]
        effects = _effects(plan, part.contrast.select(np.array(ours)))
        inner = f"{part.table.form}.{attribute}.{group}.{part.table.direction}"
        yield row(f"{inner}.total_effect", effects.total, unit="nats", n=effects.clusters)
        yield from site_rows(effects, key=inner, alpha=plan.judging.alpha)


def _trace_statement(plan: Plan, part: Traced) -> Sentence:
    if part.effects is None:
        return untraced(part.table.form, part.table.direction)
    return statement(part.effects, alpha=plan.judging.alpha)


def _asymmetries(plan: Plan, traced: Sequence[Traced]) -> Iterator[tuple[EffectTable, list[Asymmetry]]]:
    """The sites named in either direction, where both were traced and the total effect is known to differ from 0."""
    parts = {(part.table.form, part.table.direction): part for part in traced}
    judging = plan.judging
    for form in dict.fromkeys(part.table.form for part in traced):
        both = [parts.get((form, direction)) for direction in (Direction.DENOISE, Direction.NOISE)]
        one, other = (None if part is None else part.effects for part in both)
        if one is None or other is None or one.normalised is None or other.normalised is None:
            continue
        named = dict.fromkeys([*named_sites(one, alpha=judging.alpha), *named_sites(other, alpha=judging.alpha)])
        yield (
            one.table,
            asymmetries(
                one.table,
                other.table,
                list(named),
                alpha=judging.alpha,
                resamples=judging.resamples,
                seed=judging.seed,
            ),
        )


def _of_kind(table: EffectTable, kind: PairKind) -> Mask:
    return np.array([pair.kind is kind for pair in table.pairs], dtype=bool)


def _disparity_statements(judged: Sequence[tuple[Contrast, Judged]], rows: Sequence[Result]) -> Iterator[Sentence]:
    values = {one.key: one.value for one in rows}
    for contrast, one in judged:
        yield _found(contrast, one)
        flips, noise = values[f"{contrast.key}.flips_gross"], values[f"{contrast.form}.placebo.flip_rate"]
        if flips is not None and noise is not None:
            yield say("disparity.flips", form=contrast.form, group=contrast.group, flips=flips, placebo=noise)
        elif flips is not None:
            yield say("disparity.flips_alone", form=contrast.form, group=contrast.group, flips=flips)


def _found(contrast: Contrast, one: Judged) -> Sentence:
    """The outcome of METHOD.md section 3, point 5 (disparity, equivalent or inconclusive), or that there is none."""
    assessment = one.assessment
    return say(
        f"disparity.{one.outcome}",
        form=contrast.form,
        group=contrast.group,
        unit=assessment.unit,
        delta=assessment.delta,
        favoured=assessment.favoured,
        gap=assessment.gap.value or 0.0,
    )
