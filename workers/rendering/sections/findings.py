"""Open items with what management says to them, mitigations, the change since the last accepted report, exceptions."""

from collections.abc import Iterator

from audit_service.domain.approvals import Acceptance
from audit_service.domain.comparison import EarlierRun, Mitigation
from audit_service.domain.drift import Drift
from audit_service.domain.results import Verdict, VerdictValue
from workers.rendering import numbers
from workers.rendering.blocks import Block, Bullets, Callout, Cell, Column, Paragraph, Section
from workers.rendering.context import (
    WORST_FIRST,
    Context,
    code,
    fact_list,
    heading,
    note,
    number_columns,
    table,
    text_cell,
    tone_of,
)


def findings(context: Context) -> Section:
    """Condition, criterion, effect and response for each form that did not pass, then what else is on record."""
    t, judgement = context.t, context.evidence.judgement
    open_items = [v for v in judgement.forms if v.value is not VerdictValue.PASS]
    open_items.sort(key=lambda verdict: WORST_FIRST.index(verdict.value))
    blocks: list[Block] = [Paragraph(text=t("findings.text")), _severity(context)]
    blocks += [_item(context, index, verdict) for index, verdict in enumerate(open_items, start=1)]
    if not open_items:
        blocks.append(note(t("findings.none")))
    for name, recorded in (
        ("mitigation", _mitigations(context)),
        ("previous", _previous(context)),
        ("exceptions", _acceptances(context)),
    ):
        blocks.append(heading(t(f"findings.{name}"), f"findings-{name}"))
        blocks += list(recorded) or [note(t(f"findings.{name}.none"))]
    return Section(id="findings", number="10", title=t("findings.title"), blocks=tuple(blocks))


def _severity(context: Context) -> Block:
    t = context.t
    columns = (Column(label=t("robustness.verdict"), style="status", width="20%"), Column(label=t("findings.rule")))
    rows = [
        (Cell(text=context.verdict(value), style="status", tone=tone_of(value)), text_cell(t(f"findings.rule.{value}")))
        for value in WORST_FIRST
    ]
    return table(t("findings.severity"), columns, rows)


def _item(context: Context, index: int, verdict: Verdict) -> Block:
    t, behavior = context.t, context.evidence.plan.behavior
    threshold = numbers.criterion(behavior.threshold.gap_nats)
    return fact_list(
        t("findings.item", number=str(index), form=verdict.scope, verdict=context.verdict(verdict.value)),
        (
            (t("findings.condition"), text_cell(t.sentences(context.say(reason) for reason in verdict.reasons))),
            (t("findings.criterion"), text_cell(t("findings.criterion.value", threshold=threshold))),
            (t("findings.cause"), text_cell(t("findings.cause.value"))),
            (t("findings.effect"), text_cell(t("findings.effect.value"))),
            (t("findings.owner"), text_cell(behavior.owner)),
            *_responses(context, verdict.scope),
        ),
    )


def _responses(context: Context, scope: str) -> Iterator[tuple[str, Cell]]:
    """What management answers to the item, or to the behavior as a whole."""
    t = context.t
    answers = [response for response in context.evidence.responses if response.scope in {scope, "behavior"}]
    if not answers:
        yield t("findings.response"), text_cell(t("findings.response.none"))
    for answer in sorted(answers, key=lambda answer: answer.at):
        said = [t("findings.response.value", person=answer.person, day=numbers.day(answer.at), text=answer.text)]
        said += [t("findings.action", action=answer.action)] if answer.action else []
        said += [t("findings.action.owner", owner=answer.owner)] if answer.owner else []
        said += [t("findings.action.due", day=numbers.day(answer.due))] if answer.due else []
        yield t("findings.response"), text_cell(t.sentences(said))


def _mitigations(context: Context) -> Iterator[Block]:
    t, evidence = context.t, context.evidence
    for index, measure in enumerate(evidence.mitigations, start=1):
        yield Callout(title=measure.title, text=_told(context, measure))
        yield _earlier(context, measure.before, t("mitigation.before", number=str(index)))
        yield from _changes(context, measure.before, measure.drift, f"mitigation{index}.before", f"mitigation{index}.")
        if measure.reference_changes or measure.side_effects:
            yield _side_effects(context, measure, f"mitigation{index}")
        if not measure.complete(pair_set_digest=evidence.pair_set.digest):
            yield Callout(title=t("mitigation.incomplete"), text=t("mitigation.incomplete.text"), tone="concern")


def _told(context: Context, measure: Mitigation) -> str:
    t = context.t
    recorded = t("mitigation.recorded", person=measure.person, day=numbers.day(measure.at))
    return t.sentences([measure.description, t("mitigation.fitted_on", data=measure.fitted_on), recorded])


def _side_effects(context: Context, measure: Mitigation, prefix: str) -> Block:
    """The reference group's decisions by form and group, then what was measured elsewhere."""
    t, book = context.t, context.book
    named = [
        (text_cell(t(f"mitigation.{what}", form=one.form, group=one.group)), f"{prefix}.{one.key}.{what}")
        for one in context.contrasts
        for what in ("reference_change_nats", "reference_rate_change")
    ]
    named += [(code(result.key), f"{prefix}.side.{result.key}") for result in measure.side_effects]
    columns = [Column(label=t("mitigation.measure"), width="45%")]
    columns += number_columns(context, ("value", "interval", "p"))
    rows = [(name, book.number(key), book.interval(key), book.p(key)) for name, key in named if key in book]
    return table(t("mitigation.side_effects"), columns, rows, note=t("mitigation.side_effects.note"))


def _previous(context: Context) -> Iterator[Block]:
    compared = context.evidence.comparison
    if compared is not None:
        yield _earlier(context, compared.earlier, context.t("comparison.earlier"))
        yield from _changes(context, compared.earlier, compared.drift, "accepted", "")


def _earlier(context: Context, earlier: EarlierRun, caption: str) -> Block:
    t = context.t
    return fact_list(
        caption,
        (
            (t("comparison.document"), code(earlier.document_id)),
            (t("cover.run"), code(earlier.run_id)),
            (t("cover.plan"), code(numbers.short(earlier.plan_digest))),
            (t("cover.model"), text_cell(f"{earlier.model.name} {earlier.model.version}")),
            (t("cover.model_digest"), code(numbers.short(earlier.model.digest))),
            (t("cover.ended"), text_cell(numbers.moment(earlier.ended_at))),
            (
                t("cover.verdict"),
                Cell(text=context.verdict(earlier.verdict), style="status", tone=tone_of(earlier.verdict)),
            ),
        ),
    )


def _changes(context: Context, earlier: EarlierRun, drift: Drift, before: str, prefix: str) -> Iterator[Block]:
    """Disparities before and after, the change of each, and whether the mechanism changed with them."""
    t = context.t
    said = t(
        "comparison.summary", output=t(f"word.change.{drift.output}"), mechanism=t(f"word.change.{drift.mechanism}")
    )
    yield Paragraph(text=said, role="intro")
    yield _disparities(context, before, prefix)
    if mechanisms := _mechanisms(context, prefix):
        yield mechanisms
    if earlier.pair_set_digest != context.evidence.pair_set.digest:
        yield note(t("comparison.other_pairs"))
    yield Bullets(items=tuple(context.say(statement) for statement in drift.statements))


def _disparities(context: Context, before: str, prefix: str) -> Block:
    book = context.book
    columns = [
        Column(label=context.t("column.form"), width="10%"),
        Column(label=context.t("column.groups"), width="15%"),
    ]
    columns += number_columns(context, ("gap_before", "gap_now", "gap_change", "interval", "p_holm"))
    rows = [
        (
            text_cell(one.form),
            text_cell(f"{one.group} / {one.reference}"),
            book.number(f"{before}.{one.key}.gap_nats"),
            book.number(f"{one.key}.gap_nats"),
            book.number(f"{prefix}drift.{one.key}.gap_change_nats"),
            book.interval(f"{prefix}drift.{one.key}.gap_change_nats"),
            book.number(f"{prefix}drift.{one.key}.gap_change_p_holm"),
        )
        for one in context.contrasts
    ]
    return table(context.t("comparison.disparities"), columns, rows, note=context.t("comparison.note"))


def _mechanisms(context: Context, prefix: str) -> Block | None:
    t, book = context.t, context.book
    keys = [
        (form, direction, f"{prefix}drift.{form}.{direction}")
        for form in context.forms
        for direction in context.directions
    ]
    rows = [
        (
            text_cell(form),
            text_cell(t(f"direction.{direction}")),
            book.number(f"{key}.rank_correlation"),
            book.interval(f"{key}.rank_correlation"),
            book.number(f"{key}.topk_jaccard"),
            book.number(f"{key}.changed_sites"),
        )
        for form, direction, key in keys
        if f"{key}.rank_correlation" in book
    ]
    columns = [Column(label=t("column.form"), width="12%"), Column(label=t("column.direction"), width="18%")]
    columns += number_columns(context, ("rank_correlation", "interval", "overlap", "changed_sites"))
    return table(t("comparison.mechanisms"), columns, rows) if rows else None


def _acceptances(context: Context) -> Iterator[Block]:
    """What ends first stands first; what has ended, and what nobody has accepted, is marked."""
    t, evidence = context.t, context.evidence
    if not evidence.acceptances:
        return
    widths = {"id": "10%", "kind": "11%", "scope": "11%", "reason": None, "person": "25%", "expires": "13%"}
    columns = [Column(label=t(f"acceptance.{name}"), width=width) for name, width in widths.items()]
    rows = []
    for accepted in sorted(evidence.acceptances, key=lambda accepted: accepted.expires):
        expired = accepted.expired(evidence.issued_at)
        reason = [accepted.reason]
        reason += [t("acceptance.conditions", text=accepted.conditions)] if accepted.conditions else []
        day = numbers.day(accepted.expires)
        rows.append(
            (
                text_cell(accepted.id),
                text_cell(t(f"acceptance.kind.{accepted.kind}")),
                text_cell(t("robustness.behavior") if accepted.scope == "behavior" else accepted.scope),
                text_cell(t.sentences(reason)),
                _decided(context, accepted),
                Cell(
                    text=t("acceptance.expired", day=day) if expired else day,
                    style="status" if expired else "text",
                    tone="fail" if expired else "plain",
                ),
            )
        )
    yield table(t("acceptance.caption"), columns, rows)


def _decided(context: Context, acceptance: Acceptance) -> Cell:
    """Who asked for it and who decided: two people."""
    t, decision = context.t, context.evidence.decision_on(acceptance)
    said = [t("acceptance.asked", person=acceptance.person, role=acceptance.role, day=numbers.day(acceptance.at))]
    if decision is None:
        said.append(t("acceptance.undecided"))
    else:
        word, day = t(f"approval.decision.{decision.decision}"), numbers.day(decision.at)
        said.append(t("acceptance.decided", decision=word, person=decision.person, role=decision.role, day=day))
    return Cell(text=t.sentences(said), tone="plain" if decision and decision.accepts else "concern")
