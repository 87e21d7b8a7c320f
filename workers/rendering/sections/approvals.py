"""Who decided what on which record, and the log."""

from audit_service.domain.approvals import Approval
from workers.rendering import numbers
from workers.rendering.blocks import Block, Callout, Cell, Column, Paragraph, Section
from workers.rendering.context import Context, code, heading, table, text_cell


def approvals(context: Context) -> Section:
    t, evidence = context.t, context.evidence
    blocks: list[Block] = []
    if evidence.approvals:
        blocks += [Paragraph(text=t("approval.text"), role="intro"), _decisions(context)]
    else:
        blocks.append(Callout(title=t("approval.none"), text=t("approval.none.text"), tone="inconclusive"))
    if evidence.editions:
        blocks += [heading(t("edition.title"), "approval-editions"), _editions(context)]
    if evidence.events:
        blocks += [heading(t("event.title"), "approval-events"), _events(context)]
    return Section(id="approvals", number="14", title=t("approval.title"), blocks=tuple(blocks))


def _decisions(context: Context) -> Block:
    """The trail in the order of time: each decision stands beside the one that it answers."""
    widths = {"at": "15%", "person": "17%", "role": "14%", "decision": "14%", "record": "20%", "comment": None}
    columns = [Column(label=context.t(f"approval.{name}"), width=width) for name, width in widths.items()]
    rows = [
        (
            text_cell(numbers.moment(approval.at)),
            text_cell(approval.person),
            text_cell(approval.role),
            text_cell(context.t(f"approval.decision.{approval.decision}")),
            _record(context, approval),
            text_cell(approval.comment),
        )
        for approval in sorted(context.evidence.approvals, key=lambda approval: approval.at)
    ]
    return table(context.t("approval.caption"), columns, rows)


def _record(context: Context, approval: Approval) -> Cell:
    known = context.evidence.names(approval)
    text = context.t(
        "approval.record.known" if known else "approval.record.unknown",
        record=context.t(f"approval.record.{approval.record}"),
        digest=numbers.short(approval.record_digest),
    )
    return Cell(text=text, tone="plain" if known else "concern")


def _editions(context: Context) -> Block:
    t = context.t
    columns = (
        Column(label=t("edition.number"), style="number", width="10%"),
        Column(label=t("edition.issued"), width="24%"),
        Column(label=t("edition.language"), width="12%"),
        Column(label=t("edition.digest"), style="code"),
    )
    rows = [
        (
            Cell(text=str(edition.number), style="number"),
            text_cell(numbers.moment(edition.issued_at)),
            text_cell(language),
            code(digest),
        )
        for edition in context.evidence.editions
        for language, digest in sorted(edition.digests.items())
    ]
    return table(t("edition.caption"), columns, rows, dense=True)


def _events(context: Context) -> Block:
    t = context.t
    columns = [Column(label=t("event.at"), width="24%"), Column(label=t("event.actor"), width="20%")]
    columns += [Column(label=t("event.what")), Column(label=t("event.digest"), style="code", width="22%")]
    rows = [
        (
            text_cell(numbers.moment(event.at)),
            text_cell(event.actor),
            text_cell(_what(context, event.what)),
            code(numbers.short(event.digest or "")),
        )
        for event in context.evidence.events
    ]
    return table(t("event.caption"), columns, rows, dense=True)


def _what(context: Context, what: str) -> str:
    """The log's words in the language; what the catalogue does not know stands as it was logged."""
    key = f"event.what.{what}"
    return context.t(key) if context.t.has(key) else what
