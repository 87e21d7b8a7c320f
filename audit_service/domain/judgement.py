"""The judge: from the cells of a run to everything that its report prints. Pure; the plan's seeds decide all chance."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from audit_service.domain.cells import DecisionTable, EffectTable, Mask
from audit_service.domain.contrasts import Contrast, contrasts
from audit_service.domain.decision_rows import contrast_rows, form_rows
from audit_service.domain.disparity import assess
from audit_service.domain.effect_rows import effect_rows, prefix, statement, untraced
from audit_service.domain.effects import SiteEffects, site_effects
from audit_service.domain.pairs import PairKind
from audit_service.domain.plan import Plan
from audit_service.domain.protocol import Preview, lint_plan, lint_results
from audit_service.domain.results import Judgement, Result, Sentence
from audit_service.domain.rows import count
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
    rows = tuple(chain(_decision_rows(plan, decisions, judged), *(part.rows for part in traced)))
    protocol = (
        *lint_plan(plan, decisions.pairs, Preview.of(decisions)),
        *lint_results(plan, decisions, judged=[one for _, one in judged], rows=rows, controls=controls),
    )
    forms = tuple(
        form_verdict(form, [one for contrast, one in judged if contrast.form == form], protocol)
        for form in dict.fromkeys(contrast.form for contrast, _ in judged)
    )
    statements = (*_disparity_statements(judged, rows), *(part.statement for part in traced))
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
    for form in dict.fromkeys(contrast.form for contrast, _ in judged):
        yield from form_rows(decisions, form, behavior=plan.behavior, judging=plan.judging)


@dataclass(frozen=True, slots=True)
class Traced:
    """What one form and direction of the traces gives."""

    rows: tuple[Result, ...]
    statement: Sentence
    effects: SiteEffects | None


def _traced(plan: Plan, table: EffectTable, decisions: DecisionTable) -> Traced:
    measured = decisions.measured(min_coverage=plan.behavior.min_coverage)
    known = {pair.id for pair, kept in zip(decisions.pairs, measured, strict=True) if kept}
    kept = table.finite() & np.array([pair.id in known for pair in table.pairs], dtype=bool)
    contrast, noise = (table.select(kept & _of_kind(table, kind)) for kind in (PairKind.CONTRAST, PairKind.PLACEBO))
    method = "traced pairs without a measured decision or with a cell that is no number"
    lost = count(f"{prefix(table)}.pairs_not_measured", int((~kept).sum()), method)
    if not contrast.pairs:
        return Traced((lost,), untraced(table.form, table.direction), None)
    judging = plan.judging
    effects = site_effects(contrast, alpha=judging.alpha, resamples=judging.resamples, seed=judging.seed)
    rows = (lost, *effect_rows(effects, placebo=noise, alpha=judging.alpha))
    return Traced(rows, statement(effects, alpha=judging.alpha), effects)


def _of_kind(table: EffectTable, kind: PairKind) -> Mask:
    return np.array([pair.kind is kind for pair in table.pairs], dtype=bool)


def _disparity_statements(judged: Sequence[tuple[Contrast, Judged]], rows: Sequence[Result]) -> Iterator[Sentence]:
    values = {row.key: row.value for row in rows}
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
