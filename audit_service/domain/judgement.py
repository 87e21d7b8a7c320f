"""The judge: from the cells of a run to everything that its report prints. Pure; the plan's seeds decide all chance."""

from collections.abc import Iterator, Sequence

from audit_service.domain.cells import DecisionTable, EffectTable
from audit_service.domain.contrasts import Contrast, contrasts
from audit_service.domain.decision_rows import attribute_rows, contrast_rows, form_rows
from audit_service.domain.disparity import Assessment, assess, unit_of
from audit_service.domain.effect_rows import asymmetry_rows, asymmetry_statements, leading_rows, leading_statement
from audit_service.domain.joint import JointTable
from audit_service.domain.joint_rows import Interaction, interactions, joint_rows, joint_statements
from audit_service.domain.plan import Plan, Unit
from audit_service.domain.protocol import Seen, lint_plan, lint_results
from audit_service.domain.results import Judgement, Result, Sentence
from audit_service.domain.robustness import robust
from audit_service.domain.sentences import say
from audit_service.domain.trace import Control
from audit_service.domain.traced import leading_sites, measured_part, named_asymmetries, trace_rows, trace_statement
from audit_service.domain.verdict import Disparity, Judged, behavior_verdict, confirmed, form_verdict, judge_contrasts
from audit_service.errors import ControlFailed


def judge(
    plan: Plan,
    decisions: DecisionTable,
    effects: Sequence[EffectTable],
    controls: Sequence[Control],
    *,
    joint: Sequence[JointTable] = (),
) -> Judgement:
    """Numbers, sentences and verdict of one run. Cells that are missing or failed (NaN) are counted, never filled in.

    Raises ControlFailed if a control of the run failed: it is never averaged away.
    """
    _refuse_failed(controls)
    judged = _judged(plan, decisions)
    traced = [measured_part(plan, table, decisions) for table in effects]
    asymmetric = list(named_asymmetries(plan, traced))
    leaders = list(leading_sites(plan, traced))
    together = [(table.alone.form, interactions(plan, table, decisions)) for table in joint]
    rows = (
        *_decision_rows(plan, decisions, judged),
        *(one for part in traced for one in trace_rows(plan, part)),
        *(one for table, found in asymmetric for one in asymmetry_rows(table.form, table, found)),
        *(one for form, found in together for one in joint_rows(form, found)),
        *(one for form, leading in leaders for one in leading_rows(form, leading)),
    )
    seen = Seen.of(decisions, min_coverage=plan.behavior.min_coverage, unequal_spans=plan.pair_set.unequal_spans)
    protocol = (
        *lint_plan(plan, decisions.pairs, seen),
        *lint_results(plan, decisions, judged=[one for _, one in judged], rows=rows, controls=controls),
    )
    forms = tuple(
        form_verdict(form, [one for contrast, one in judged if contrast.form == form], protocol)
        for form in dict.fromkeys(contrast.form for contrast, _ in judged)
    )
    statements = (
        *_disparity_statements(judged, rows, alpha=plan.judging.alpha),
        *(trace_statement(plan, part) for part in traced),
        *(one for table, found in asymmetric for one in asymmetry_statements(table.form, table, found)),
        *_joint_statements(together, alpha=plan.judging.alpha),
        *(leading_statement(form, leading) for form, leading in leaders),
    )
    verdicts = [behavior_verdict(forms), *forms]
    (whole, *parts), shares = robust(
        verdicts, judged=[one for _, one in judged], plan=plan, decisions=decisions, protocol=protocol
    )
    return Judgement(
        verdict=whole,
        forms=tuple(parts),
        results=(*rows, *shares),
        protocol=tuple(sorted(protocol, key=lambda finding: finding.rule)),
        controls=tuple(controls),
        statements=statements,
    )


def _joint_statements(together: Sequence[tuple[str, list[Interaction]]], *, alpha: float) -> Iterator[Sentence]:
    """Form by form, both directions beside each other."""
    for form in dict.fromkeys(form for form, _ in together):
        found = [one for other, ones in together if other == form for one in ones]
        yield from joint_statements(form, found, alpha=alpha)


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
    by_cluster, by_cues = (
        judge_contrasts(
            [_assessed(plan, contrast, unit) for contrast in found],
            alpha=judging.alpha,
            others=judging.comparisons_elsewhere,
        )
        for unit in (Unit.CLUSTER, Unit.CUES)
    )
    return list(zip(found, map(confirmed, by_cluster, by_cues), strict=True))


def _assessed(plan: Plan, contrast: Contrast, unit: Unit) -> Assessment:
    judging = plan.judging
    return assess(contrast, behavior=plan.behavior, judging=judging, unit=unit_of(contrast, unit, alpha=judging.alpha))


def _decision_rows(plan: Plan, decisions: DecisionTable, judged: Sequence[tuple[Contrast, Judged]]) -> Iterator[Result]:
    for contrast, one in judged:
        yield from contrast_rows(contrast, one, decisions=decisions, plan=plan)
    yield from attribute_rows(judged)
    for form in dict.fromkeys(contrast.form for contrast, _ in judged):
        yield from form_rows(decisions, form, plan=plan)


def _disparity_statements(
    judged: Sequence[tuple[Contrast, Judged]], rows: Sequence[Result], *, alpha: float
) -> Iterator[Sentence]:
    values = {one.key: one.value for one in rows}
    for contrast, one in judged:
        yield _found(contrast, one)
        if one.outcome is Disparity.INCONCLUSIVE:
            yield from _power(one.deciding, alpha=alpha)
        flips, noise = values[f"{contrast.key}.flips_gross"], values[f"{contrast.form}.placebo.flip_rate"]
        if flips is not None and noise is not None:
            yield say("disparity.flips", form=contrast.form, group=contrast.group, flips=flips, placebo=noise)
        elif flips is not None:
            yield say("disparity.flips_alone", form=contrast.form, group=contrast.group, flips=flips)


def _power(assessment: Assessment, *, alpha: float) -> Iterator[Sentence]:
    """What an inconclusive contrast could have shown."""
    if assessment.mean is not None:
        yield say(
            "disparity.power",
            form=assessment.form,
            group=assessment.group,
            clusters=assessment.clusters,
            mde=assessment.mean.detectable(alpha),
            unit=assessment.unit,
        )


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
