"""Results C, open items, limitations: what the reader may and may not lean on."""

import re
from collections.abc import Iterator, Sequence

from audit_service.domain.plan import Corruption
from audit_service.domain.results import Level, LintFinding
from audit_service.domain.robustness import BEHAVIOR
from workers.rendering import numbers
from workers.rendering.blocks import Block, Bullets, Cell, Column, Section
from workers.rendering.context import WORST_FIRST, Context, code, heading, note, table, text_cell, tone_of
from workers.rendering.sections.subject import not_measured


def robustness(context: Context) -> Section:
    t = context.t
    blocks: list[Block] = [heading(t("robustness.verdicts"), "robustness-verdicts"), _verdicts(context)]
    choices = _choices(context)
    blocks += [choices] if choices else []
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
                text_cell(t("robustness.behavior") if verdict.scope == BEHAVIOR else verdict.scope),
                Cell(text=context.verdict(verdict.value), style="status", tone=tone_of(verdict.value)),
                Cell(text=t("robustness.one") if share is None else numbers.percent(share), style="number"),
                context.book.number(f"{verdict.scope}.verdict_share.specifications"),
                text_cell("; ".join(_grouped(context, verdict.changed_by)) or t("cover.none")),
            )
        )
    columns = (
        Column(label=t("robustness.scope"), width="16%"),
        Column(label=t("robustness.verdict"), style="status", width="14%"),
        Column(label=t("robustness.share"), style="number", width="13%"),
        Column(label=t("robustness.specifications"), style="number", width="13%"),
        Column(label=t("robustness.changed")),
    )
    return table(t("robustness.verdicts.table"), columns, rows, note=t("robustness.note"))


def _grouped(context: Context, names: Sequence[str]) -> Iterator[str]:
    """Specifications in words, those that differ by the part of the prompts alone in one."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in names:
        found = _PART.search(name)
        outside = (name[: found.start()], name[found.end() :]) if found else (name, "")
        groups.setdefault(outside, []).extend([found[1]] if found else [])
    for (before, after), parts in groups.items():
        said = context.specification(before)
        said = context.t.join([said, context.t("spec.parts", numbers=", ".join(parts))]) if parts else said
        yield context.t.join([said, context.specification(after.removeprefix(", "))]) if after else said


_PART = re.compile(r", part (\d+) of the prompts")


def _choices(context: Context) -> Block | None:
    """What each choice can change, and whether it did: the verdict, and the site that is said to lead."""
    t, book = context.t, context.book
    rows = []
    for scope in (*([BEHAVIOR] if len(context.forms) > 1 else []), *context.forms):
        for axis, value, said in _declared(context):
            keys = [f"{scope}.{what}.{axis}.{value}" for what in ("verdict_share", "leading_site_share")]
            if any(key in book for key in keys):
                cells = [book.number(key) if key in book else text_cell(t("robustness.no_bearing")) for key in keys]
                name = t("robustness.behavior") if scope == BEHAVIOR else scope
                rows.append([text_cell(name), text_cell(t(f"robustness.axis.{axis}")), text_cell(said), *cells])
    columns = [Column(label=t("robustness.scope"), width="16%"), Column(label=t("robustness.choice"), width="16%")]
    columns.append(Column(label=t("robustness.value")))
    columns += [Column(label=t(f"robustness.same.{what}"), style="number", width="17%") for what in ("verdict", "site")]
    caption, explained = t("robustness.choices"), t("robustness.choices.note")
    return table(caption, columns, rows, note=explained, dense=True) if rows else None


def _declared(context: Context) -> Iterator[tuple[str, str, str]]:
    """Choice, value and its words, as the keys of results name them."""
    t, plan = context.t, context.evidence.plan
    yield from (("metric", metric.name, context.metric(metric.name)) for metric in plan.metrics)
    yield from (("unit", str(unit), t(f"spec.unit.{unit}")) for unit in plan.judging.robustness.units)
    yield from (("form", form.name, t("spec.form", form=form.name)) for form in plan.behavior.forms)
    yield from (("direction", str(way), t(f"direction.{way}")) for way in plan.tracing.directions)
    yield from (("corruption", str(one), t(f"corruption.{one}")) for one in plan.tracing.corruptions)
    yield from (("prompts", which, t(f"robustness.prompts.{which}")) for which in ("all", "parts"))


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
    alone = context.evidence.plan.tracing.corruptions == (Corruption.PAIR,)
    items = [t(f"limitation.{name}") for name in LIMITATIONS if alone or name != "corruption"]
    if downgrades["DG5"] == "applies":
        items.insert(0, t("limitation.unstable"))
    blocks: list[Block] = [Bullets(items=tuple(items)), heading(t("limitation.uses"), "limitation-uses")]
    blocks.append(Bullets(items=tuple(t(f"limitation.use.{name}") for name in ("individual", "ranking", "other"))))
    return Section(id="limitations", number="11", title=t("limitation.title"), blocks=tuple(blocks))
