"""Results A: the disparity at the decision."""

from collections.abc import Sequence

from audit_service.domain.readings import MetricDefinition
from workers.rendering import numbers
from workers.rendering.blocks import Block, Bullets, Cell, Column, ForestChart, Interval, Section
from workers.rendering.context import Context, Contrast, heading, number_columns, table, text_cell
from workers.rendering.sections.front import gap_chart


def disparity(context: Context) -> Section:
    t = context.t
    blocks: list[Block] = []
    statements = context.statements("disparity")
    if statements:
        blocks.append(Bullets(items=statements))
    chart = gap_chart(context)
    blocks += [heading(t("disparity.gap"), "disparity-gap")]
    blocks += [chart] if chart else []
    blocks += [_gaps(context), _equivalence(context), _sensitivity(context)]
    blocks += [heading(t("disparity.rates"), "disparity-rates"), _rates(context), _ratios(context)]
    flips = _flip_chart(context)
    blocks += [heading(t("disparity.flips"), "disparity-flips")]
    blocks += [flips] if flips else []
    blocks += [_flips(context), _net(context), _placebo(context)]
    strata = _strata(context)
    if strata:
        blocks += [heading(t("disparity.strata"), "disparity-strata"), strata]
    metrics = _metrics(context)
    blocks += [metrics] if metrics else []
    mixed = _mixed(context)
    blocks += [mixed] if mixed else []
    return Section(id="disparity", number="7", title=t("disparity.title"), blocks=tuple(blocks))


def _columns(context: Context, names: Sequence[str]) -> list[Column]:
    """Form and groups, then columns of numbers."""
    t = context.t
    return [
        Column(label=t("column.form"), width="10%"),
        Column(label=t("column.groups"), width="15%"),
        *number_columns(context, names),
    ]


def _scope(contrast: Contrast) -> list[Cell]:
    return [text_cell(contrast.form), text_cell(f"{contrast.group} / {contrast.reference}")]


def _gaps(context: Context) -> Block:
    book = context.book
    columns = _columns(context, ("gap_nats", "interval", "p", "p_holm", "gap_pp", "dz", "clusters"))
    rows = [
        [
            *_scope(c),
            book.number(f"{c.key}.gap_nats"),
            book.interval(f"{c.key}.gap_nats"),
            book.p(f"{c.key}.gap_nats"),
            book.number(f"{c.key}.gap_p_holm"),
            book.number(f"{c.key}.gap_pp"),
            book.number(f"{c.key}.dz"),
            book.units(f"{c.key}.gap_nats"),
        ]
        for c in context.contrasts
    ]
    return table(context.t("disparity.gap.table"), columns, rows, note=context.t("disparity.gap.note"))


def _equivalence(context: Context) -> Block:
    book = context.book
    columns = _columns(context, ("tost_interval", "tost_p", "margin", "mde", "outcome"))
    margin = f"±{numbers.criterion(context.evidence.plan.judging.delta_nats)}"
    rows = [
        [
            *_scope(c),
            _with_ref(book.interval(f"{c.key}.equivalence_nats"), book.ref(f"{c.key}.equivalence_nats")),
            book.p(f"{c.key}.equivalence_nats"),
            Cell(text=margin, style="number"),
            book.number(f"{c.key}.mde_nats"),
            text_cell(_equivalence_outcome(context, c)),
        ]
        for c in context.contrasts
    ]
    return table(context.t("disparity.equivalence.table"), columns, rows, note=context.t("disparity.equivalence.note"))


def _sensitivity(context: Context) -> Block:
    """The same gap with cue pairs as clusters, and its size without sign."""
    book = context.book
    rows = [
        [
            *_scope(c),
            book.number(f"{c.key}.gap_nats_by_cues"),
            book.interval(f"{c.key}.gap_nats_by_cues"),
            book.units(f"{c.key}.gap_nats_by_cues"),
            book.number(f"{c.key}.gap_abs_nats"),
        ]
        for c in context.contrasts
    ]
    columns = _columns(context, ("gap_by_cues", "interval", "cue_pairs", "gap_abs"))
    return table(context.t("disparity.sensitivity.table"), columns, rows, note=context.t("disparity.sensitivity.note"))


def _with_ref(cell: Cell, ref: str | None) -> Cell:
    return cell.model_copy(update={"ref": ref})


def _equivalence_outcome(context: Context, contrast: Contrast) -> str:
    """The judge's outcome of the comparison (METHOD.md 3.6): the report decides nothing of its own."""
    for statement in context.evidence.judgement.statements:
        kind = _OUTCOMES.get(statement.id)
        same = (statement.values.get("form"), statement.values.get("group")) == (contrast.form, contrast.group)
        if kind and same:
            return context.t(kind)
    return context.t("outcome.not_measured")


_OUTCOMES = {
    "disparity.found": "equivalence.disparity",
    "disparity.equivalent": "equivalence.equivalent",
    "disparity.inconclusive": "equivalence.inconclusive",
    "disparity.not_measured": "outcome.not_measured",
}


def _rates(context: Context) -> Block:
    columns = _columns(context, ("pairs", "unmeasured", "rate_reference", "rate_comparison"))
    names = ("pairs", "pairs_not_measured", "rate_reference", "rate_comparison")
    rows = [
        [*_scope(contrast), *(context.book.number(f"{contrast.key}.{name}") for name in names)]
        for contrast in context.contrasts
    ]
    return table(context.t("disparity.rates.table"), columns, rows)


def _ratios(context: Context) -> Block:
    book = context.book
    rows = [
        [
            *_scope(c),
            book.number(f"{c.key}.rate_ratio"),
            book.interval(f"{c.key}.rate_ratio"),
            _with_ref(book.interval(f"{c.key}.rate_ratio_independent"), book.ref(f"{c.key}.rate_ratio_independent")),
        ]
        for c in context.contrasts
    ]
    columns = _columns(context, ("rate_ratio", "interval", "katz"))
    return table(context.t("disparity.ratios.table"), columns, rows, note=context.t("disparity.ratios.note"))


def _flips(context: Context) -> Block:
    book = context.book
    labels = ("flips_gross", "placebo_flips", "flips_over_placebo", "interval", "flips_lost", "flips_gained", "mcnemar")
    rows = [
        [
            *_scope(c),
            book.number(f"{c.key}.flips_gross"),
            book.number(f"{c.form}.placebo.flip_rate"),
            book.number(f"{c.key}.flips_over_placebo"),
            book.interval(f"{c.key}.flips_over_placebo"),
            book.number(f"{c.key}.flips_lost"),
            book.number(f"{c.key}.flips_gained"),
            book.number(f"{c.key}.mcnemar_p"),
        ]
        for c in context.contrasts
    ]
    columns = _columns(context, labels)
    return table(context.t("disparity.flips.table"), columns, rows, note=context.t("disparity.flips.note"))


def _net(context: Context) -> Block:
    """To which side decisions flip."""
    book = context.book
    rows = [
        [
            *_scope(c),
            book.number(f"{c.key}.flips_net"),
            book.interval(f"{c.key}.flips_net"),
            book.p(f"{c.key}.flips_net"),
            book.number(f"{c.key}.flips_p_holm"),
        ]
        for c in context.contrasts
    ]
    columns = _columns(context, ("flips_net", "interval", "p", "flips_holm"))
    return table(context.t("disparity.net.table"), columns, rows, note=context.t("disparity.net.note"))


def _placebo(context: Context) -> Block:
    """The noise floor and how well the labels catch the model's answers, by form."""
    t, book = context.t, context.book
    labels = ("placebo_pairs", "placebo_gap", "placebo_abs", "coverage", "low_coverage", "not_finite")
    keys = (
        "placebo.pairs",
        "placebo.gap_nats",
        "placebo.gap_abs_nats",
        "coverage_mean",
        "prompts_low_coverage",
        "prompts_not_finite",
    )
    columns = [Column(label=t("column.form"), width="16%")]
    columns += number_columns(context, labels)
    rows = [[text_cell(form), *(book.number(f"{form}.{key}") for key in keys)] for form in context.forms]
    return table(t("disparity.placebo.table"), columns, rows, note=t("disparity.placebo.note"))


def _flip_chart(context: Context) -> ForestChart | None:
    """Share of pairs whose decision changes, contrast beside placebo."""
    t = context.t
    intervals: list[Interval] = []
    for c in context.contrasts:
        label = t("chart.contrast", form=c.form, group=c.group, reference=c.reference)
        intervals += _share(context, f"{c.key}.flips_gross", label)
        intervals += _share(context, f"{c.form}.placebo.flip_rate", t("chart.placebo", form=c.form), hollow=True)
    if not intervals:
        return None
    described = "; ".join(f"{i.label}: {i.value:.1f} %" for i in intervals)
    floor = max((i.value for i in intervals if i.hollow), default=None)
    return ForestChart(
        caption=t("chart.flips.caption"),
        alt=t("chart.flips.alt", values=described),
        axis=t("chart.flips.axis"),
        intervals=tuple(dict.fromkeys(intervals)),
        lines=() if floor is None else (floor,),
        line_label="" if floor is None else t("chart.flips.floor", share=numbers.percent(floor / 100)),
    )


def _share(context: Context, key: str, label: str, *, hollow: bool = False) -> list[Interval]:
    value = context.book.value(key)
    if value is None:
        return []
    low, high = (None if bound is None else 100 * bound for bound in context.book.bounds(key))
    return [Interval(label=label, value=100 * value, low=low, high=high, hollow=hollow)]


def _strata(context: Context) -> Block | None:
    """The gap within each stratum, where the run has it, larger gaps first within a comparison."""
    book, t = context.book, context.t
    rows = []
    for c in context.contrasts:
        attribute = next(a for a in context.evidence.plan.behavior.attributes if a.name == c.attribute)
        keys = {stratum: f"{c.key}.{stratum}.gap_nats" for stratum in sorted(attribute.groups[c.group])}
        for stratum, key in sorted(keys.items(), key=lambda item: -abs(book.value(item[1]) or 0.0)):
            if key in book:
                rows.append([*_scope(c), text_cell(stratum), book.number(key), book.interval(key), book.units(key)])
        for key in (key for key in book.results if key.startswith(f"{c.key}.interaction.")):
            one, other = key.removeprefix(f"{c.key}.interaction.").split(".", maxsplit=1)
            label = t("disparity.interaction", one=one, other=other)
            rows.append([*_scope(c), text_cell(label), book.number(key), book.interval(key), book.units(key)])
    if not rows:
        return None
    columns = _columns(context, ("gap_nats", "interval", "clusters"))
    columns.insert(2, Column(label=t("column.stratum"), width="26%"))
    return table(t("disparity.strata.table"), columns, rows)


def _metrics(context: Context) -> Block | None:
    """The gap under the plan's other metrics, beside that of the placebo pairs."""
    book, t = context.book, context.t
    rows = []
    for c in context.contrasts:
        for metric in context.evidence.plan.metrics:
            key = f"{c.key}.metric.{metric.name}"
            if key in book:
                name = text_cell(_measure(context, metric))
                placebo = book.number(f"{c.form}.placebo.metric.{metric.name}")
                rows.append([*_scope(c), name, book.number(key), book.interval(key), book.p(key), placebo])
    if not rows:
        return None
    labels = ("metric_gap", "interval", "p", "metric_placebo")
    columns = _columns(context, labels)
    columns.insert(2, Column(label=t("column.metric"), width="20%"))
    return table(t("disparity.metrics.table"), columns, rows, note=t("disparity.metrics.note"))


def _measure(context: Context, metric: MetricDefinition) -> str:
    name, unit = context.metric(metric.name), context.unit(metric.unit)
    return context.t("disparity.metric.unit", metric=name, unit=unit) if unit else name


def _mixed(context: Context) -> Block | None:
    """The mixed model, where the run has it."""
    book, t = context.book, context.t
    names = ("sd_template", "sd_slope", "correlation", "sd_name", "sd_residual")
    shown = [c for c in context.contrasts if f"{c.key}.mixed_gap_nats" in book]
    if not shown:
        return None
    rows = [
        [
            *_scope(c),
            book.number(f"{c.key}.mixed_gap_nats"),
            book.interval(f"{c.key}.mixed_gap_nats"),
            *(book.number(f"{c.key}.mixed_{name}") for name in names),
        ]
        for c in shown
    ]
    labels = _columns(context, ("gap_nats", "interval", *names))
    return table(t("disparity.mixed.table"), labels, rows, note=t("disparity.mixed.note"))
