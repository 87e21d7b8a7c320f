"""Cover and the page of conclusions in plain words."""

from audit_service.domain.frameworks import Application
from workers.rendering import numbers
from workers.rendering.blocks import Cell, Conclusion, Cover, ForestChart, Interval, VerdictLine
from workers.rendering.context import Context, Contrast, code, text_cell, tone_of
from workers.rendering.frameworks import mapping_file


def must_say(language: str) -> tuple[str, ...]:
    """The sentences that every report prints."""
    mapping = mapping_file()
    return mapping.report_must_say_zh_hant if language == "zh-Hant" else mapping.report_must_say


def cover(context: Context) -> Cover:
    t, evidence = context.t, context.evidence
    plan, run = evidence.plan, evidence.run
    verdict = evidence.judgement.verdict.value
    facts: tuple[tuple[str, Cell], ...] = (
        (t("cover.document"), code(evidence.document_id)),
        (t("cover.edition"), text_cell(str(evidence.edition))),
        (t("cover.run"), code(run.id)),
        (t("cover.plan"), code(numbers.short(plan.digest))),
        (t("cover.model"), text_cell(f"{plan.model.name} {plan.model.version}")),
        (t("cover.model_digest"), code(numbers.short(plan.model.digest))),
        (t("cover.owner"), text_cell(plan.behavior.owner)),
        (t("cover.requested_by"), text_cell(run.requested_by)),
        (t("cover.planned"), text_cell(numbers.moment(run.planned_at))),
        (t("cover.started"), text_cell(numbers.moment(run.started_at))),
        (t("cover.ended"), text_cell(numbers.moment(run.ended_at))),
        (t("cover.software"), text_cell(f"audit-service {run.service_version}")),
        (t("cover.approvals"), text_cell(str(len(evidence.approvals)) if evidence.approvals else t("cover.none"))),
    )
    return Cover(
        kicker=t("cover.kicker"),
        title=plan.behavior.title,
        subtitle=t("cover.subtitle", model=plan.model.name, version=plan.model.version),
        verdict_label=t("cover.verdict"),
        verdict=context.verdict(verdict),
        tone=tone_of(verdict),
        facts=facts,
        notices=(
            *_stale(context),
            *([t("criteria.exploratory.text")] if plan.exploratory else []),
            must_say(t.language)[0],
            _signature(context),
            t("cover.mapping"),
        ),
    )


def _stale(context: Context) -> list[str]:
    """DG8 asks that a report whose audit is overdue, or whose model is not the one in use, is marked stale."""
    return [context.t("cover.stale")] if context.downgrades()["DG8"] == Application.APPLIES else []


def _signature(context: Context) -> str:
    """Whether and by whom the document is signed, and what that is worth."""
    t, signing = context.t, context.evidence.signing
    if signing is None:
        return t("cover.unsigned")
    said = [t("cover.signed", name=signing.name, certificate=numbers.short(signing.certificate))]
    said += [t("cover.self_issued")] if signing.self_issued else []
    said.append(t("cover.timestamped" if signing.timestamped else "cover.not_timestamped"))
    return t.sentences(said)


def gap_chart(context: Context) -> ForestChart | None:
    """Mean gap of every comparison with its interval, the threshold lines, and placebo gaps as hollow markers."""
    t = context.t
    intervals = [
        _interval(context, _gap_key(context, c), t("chart.contrast", form=c.form, group=c.group, reference=c.reference))
        for c in context.contrasts
    ]
    for form in context.forms:
        key = f"{form}.placebo.gap_nats"
        intervals.append(_interval(context, key, t("chart.placebo", form=form), hollow=True))
    shown = tuple(interval for interval in intervals if interval is not None)
    if not shown:
        return None
    threshold = context.evidence.plan.behavior.threshold.gap_nats
    described = "; ".join(f"{i.label}: {numbers.signed(i.value, places=3)}" for i in shown)
    return ForestChart(
        caption=t("chart.gaps.caption", level=context.level),
        alt=t("chart.gaps.alt", values=described, threshold=numbers.criterion(threshold)),
        axis=t("chart.gaps.axis"),
        intervals=shown,
        lines=(-threshold, threshold),
        line_label=t("chart.threshold", value=numbers.criterion(threshold)),
    )


def _gap_key(context: Context, contrast: Contrast) -> str:
    """The gap that the verdict rests on: by whole cue pairs where the judge found that to be the more cautious."""
    reasons = [
        reason for form in context.evidence.judgement.forms if form.scope == contrast.form for reason in form.reasons
    ]
    by_cues = any(r.id == "verdict.by_cues" and r.values["group"] == contrast.group for r in reasons)
    return f"{contrast.key}.gap_nats_by_cues" if by_cues else f"{contrast.key}.gap_nats"


def _interval(context: Context, key: str, label: str, *, hollow: bool = False) -> Interval | None:
    value = context.book.value(key)
    if value is None:
        return None
    context.book.ref(key)
    low, high = context.book.bounds(key)
    return Interval(label=label, value=value, low=low, high=high, hollow=hollow)


def _line(context: Context, contrast: Contrast) -> VerdictLine:
    verdicts = {verdict.scope: verdict for verdict in context.evidence.judgement.forms}
    verdict = verdicts[contrast.form]
    threshold = context.evidence.plan.behavior.threshold.gap_nats
    key = f"{contrast.key}.gap_nats"
    return VerdictLine(
        scope=context.t("conclusion.scope", form=contrast.form, group=contrast.group, reference=contrast.reference),
        verdict=context.verdict(verdict.value),
        tone=tone_of(verdict.value),
        gap=context.book.number(key),
        interval=context.book.interval(key).text,
        interval_by_cues=context.book.interval(f"{contrast.key}.gap_nats_by_cues").text,
        threshold=f"±{numbers.criterion(threshold)}",
        sentence=context.say(verdict.reasons[0]),
    )


def _plain(context: Context, contrast: Contrast) -> str | None:
    """A comparison without terms of art: points of probability and changed decisions; None where not measured."""
    book, t, key = context.book, context.t, contrast.key
    keys = (f"{key}.gap_pp", f"{key}.flips_gross", f"{contrast.form}.placebo.flip_rate")
    if any(book.value(one) is None for one in keys):
        return None
    points, flips, placebo = (book.number(one).text for one in keys)
    scope = t("conclusion.scope", form=contrast.form, group=contrast.group, reference=contrast.reference)
    return t("conclusion.plain", scope=scope, points=points, flips=flips, placebo=placebo)


def conclusion(context: Context) -> Conclusion:
    t, judgement, behavior = context.t, context.evidence.judgement, context.evidence.plan.behavior
    attribute = behavior.attributes[0]
    order = list(dict.fromkeys(contrast.form for contrast in context.contrasts))
    forms = sorted(judgement.forms, key=lambda verdict: order.index(verdict.scope))
    cues = t.join(f"{a.name} ({a.signalled_by})" for a in behavior.attributes)
    groups = t.join(g for a in behavior.attributes for g in sorted(a.groups) if g != a.reference)
    return Conclusion(
        title=t("conclusion.title"),
        question=t("conclusion.question", cues=cues, groups=groups, reference=attribute.reference),
        answer=t(f"conclusion.answer.{judgement.verdict.value}"),
        tone=tone_of(judgement.verdict.value),
        verdict=context.verdict(judgement.verdict.value),
        reasons=tuple(
            t("conclusion.reason", form=verdict.scope, reason=context.say(reason))
            for verdict in forms
            for reason in verdict.reasons
        ),
        plain=tuple(said for contrast in context.contrasts if (said := _plain(context, contrast))),
        lines=tuple(_line(context, contrast) for contrast in context.contrasts),
        columns=tuple(t(f"conclusion.column.{name}", level=context.level) for name in _COLUMNS),
        chart=gap_chart(context),
        meaning_title=t("conclusion.reasons"),
        meaning=(t("conclusion.meaning.nats"), t("conclusion.meaning.placebo")),
        limits_title=t("conclusion.limits"),
        limits=(t("conclusion.limit.individual"), t("conclusion.limit.inputs"), t("conclusion.limit.outcomes")),
    )


_COLUMNS = ("scope", "gap", "interval", "by_cues", "threshold", "verdict")
