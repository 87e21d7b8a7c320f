"""Results C, open items, limitations: what the reader may and may not lean on."""

from audit_service.domain.results import Level, LintFinding, Verdict
from workers.rendering import numbers
from workers.rendering.blocks import Block, Bullets, Cell, Column, Section
from workers.rendering.context import WORST_FIRST, Context, code, heading, note, table, text_cell, tone_of
from workers.rendering.sections.subject import not_measured


def robustness(context: Context) -> Section:
    t = context.t
    blocks: list[Block] = [heading(t("robustness.verdicts"), "robustness-verdicts"), _verdicts(context)]
    blocks += [heading(t("robustness.controls"), "robustness-controls"), _controls(context)]
    blocks += [heading(t("robustness.protocol"), "robustness-protocol"), _protocol(context)]
    absent = not_measured(context)
    if absent:
        blocks += [heading(t("absent.title"), "robustness-absent"), absent]
    return Section(id="robustness", number="9", title=t("robustness.title"), blocks=tuple(blocks))


def _verdicts(context: Context) -> Block:
    t, judgement = context.t, context.evidence.judgement
    scopes = sorted(judgement.forms, key=lambda verdict: WORST_FIRST.index(verdict.value))
    rows = []
    for verdict in (judgement.verdict, *scopes):
        share = verdict.share_unchanged
        rows.append(
            (
                text_cell(t("robustness.behavior") if verdict.scope == "behavior" else verdict.scope),
                Cell(text=context.verdict(verdict.value), style="status", tone=tone_of(verdict.value)),
                Cell(text=t("robustness.one") if share is None else numbers.percent(share), style="number"),
                text_cell(_changed_by(context, verdict)),
            )
        )
    columns = (
        Column(label=t("robustness.scope"), width="16%"),
        Column(label=t("robustness.verdict"), style="status", width="14%"),
        Column(label=t("robustness.share"), style="number", width="18%"),
        Column(label=t("robustness.changed")),
    )
    return table(t("robustness.verdicts.table"), columns, rows, note=t("robustness.note"))


CHANGES = 4
"""Specifications with another verdict that are printed; the attached data hold them all."""


def _changed_by(context: Context, verdict: Verdict) -> str:
    t = context.t
    if not verdict.changed_by:
        return t("cover.none")
    said = [context.specification(name) for name in verdict.changed_by[:CHANGES]]
    more = len(verdict.changed_by) - CHANGES
    return "; ".join([*said, t("robustness.more", more=str(more))] if more > 0 else said)


def _controls(context: Context) -> Block:
    t = context.t
    controls = sorted(context.evidence.judgement.controls, key=lambda control: control.passed)
    columns = (
        Column(label=t("control.name"), width="46%"),
        Column(label=t("control.measured"), style="number"),
        Column(label=t("control.tolerance"), style="number"),
        Column(label=t("control.passed"), style="status", width="12%"),
    )
    rows = [
        (
            text_cell(t(f"control.{control.name}") if t.has(f"control.{control.name}") else control.name),
            Cell(text=numbers.deviation(control.measured), style="number"),
            Cell(text=numbers.deviation(control.tolerance), style="number"),
            Cell(
                text=t("control.yes" if control.passed else "control.no"),
                style="status",
                tone="pass" if control.passed else "fail",
            ),
        )
        for control in controls
    ]
    return table(t("control.caption"), columns, rows, note=t("control.note"))


_LEVELS = {Level.ERROR: 0, Level.WARNING: 1, Level.NOTE: 2}


def _protocol(context: Context) -> Block:
    t = context.t
    findings = sorted(context.evidence.judgement.protocol, key=lambda finding: (_LEVELS[finding.level], finding.rule))
    if not findings:
        return note(t("protocol.none"))
    columns = [
        Column(label=t("protocol.rule"), style="code", width="9%"),
        Column(label=t("protocol.level"), width="12%"),
    ]
    columns += [Column(label=t("protocol.finding")), Column(label=t("protocol.remedy"), width="36%")]
    return table(t("protocol.caption"), columns, [_finding(context, finding) for finding in findings])


def _finding(context: Context, finding: LintFinding) -> tuple[Cell, ...]:
    return (
        code(finding.rule),
        text_cell(context.t(f"protocol.level.{finding.level}")),
        text_cell(context.say(finding.sentence)),
        text_cell(context.say(finding.remedy)),
    )


LIMITATIONS = (
    "corruption",
    "distribution",
    "cue",
    "labels",
    "patching",
    "completeness",
    "alignment",
    "precision",
    "single",
    "reviewer",
)


def limitations(context: Context) -> Section:
    t = context.t
    downgrades = context.downgrades()
    items = [t(f"limitation.{name}") for name in LIMITATIONS]
    if downgrades["DG5"] == "applies":
        items.insert(0, t("limitation.unstable"))
    blocks: list[Block] = [Bullets(items=tuple(items)), heading(t("limitation.uses"), "limitation-uses")]
    blocks.append(Bullets(items=tuple(t(f"limitation.use.{name}") for name in ("individual", "ranking", "other"))))
    return Section(id="limitations", number="11", title=t("limitation.title"), blocks=tuple(blocks))
