"""Results B: where inside the network an exchange moves the decision."""

from collections.abc import Sequence
from typing import NamedTuple

from audit_service.domain.plan import Direction
from audit_service.domain.sites import ALL, HEAD_KINDS, Site, SiteKind
from workers.rendering import numbers
from workers.rendering.blocks import Block, Bullets, Cell, Column, HeatMap, HeatMaps, Paragraph, Section
from workers.rendering.context import LEADING, Context, heading, note, number_columns, table, text_cell

SHOWN = 10
"""Named sites printed for each form and direction; the attached data hold them all."""
SAID = 12
"""Sentences on sites that are printed; the attached data hold them all."""


def localisation(context: Context) -> Section:
    t = context.t
    blocks: list[Block] = [Paragraph(text=t("localisation.text")), _totals(context), _stability(context)]
    statements = context.statements("effects")
    if statements:
        blocks += [heading(t("localisation.found"), "localisation-found"), Bullets(items=statements[:SAID])]
    if len(statements) > SAID:
        blocks.append(note(t("localisation.said.more", more=str(len(statements) - SAID))))
    for form in context.forms:
        blocks.append(heading(t("localisation.form", form=form), f"localisation-{form}"))
        maps = _maps(context, form)
        blocks.append(maps if maps else note(t("localisation.none", form=form)))
        blocks += [_named(context, form, direction) for direction in context.directions]
        together = _together(context, form)
        blocks += [together] if together else []
    return Section(id="localisation", number="8", title=t("localisation.title"), blocks=tuple(blocks))


def _totals(context: Context) -> Block:
    """What there is to explain: the total effect, per form and direction, and the noise floor beside it."""
    t, book = context.t, context.book
    rows = []
    for form in context.forms:
        for direction in context.directions:
            key = f"{form}.{direction}"
            rows.append(
                [
                    text_cell(form),
                    text_cell(t(f"direction.{direction}")),
                    book.number(f"{key}.total_effect"),
                    book.interval(f"{key}.total_effect"),
                    book.number(f"{key}.pairs"),
                    book.number(f"{key}.named_sites"),
                    book.number(f"{key}.placebo_floor"),
                ]
            )
    columns = [Column(label=t("column.form"), width="12%"), Column(label=t("column.direction"), width="20%")]
    labels = ("total_effect", "interval", "traced_pairs", "named_sites", "placebo_floor")
    columns += number_columns(context, labels)
    return table(t("localisation.totals"), columns, rows, note=t("localisation.totals.note"))


def _stability(context: Context) -> Block:
    """Whether other prompts would have led to the same sites, and what sites drawn by chance do."""
    t, book = context.t, context.book
    labels = ("topk", "split_half", "held_out", "random_sites", "random_lead", "leads")
    names = ("topk_jaccard", "split_half", "leading_held_out", "random_site_null", "random_sites_lead")
    rows = [
        [
            text_cell(form),
            text_cell(t(f"direction.{direction}")),
            *(book.number(f"{form}.{direction}.{name}") for name in names),
            book.number(f"{form}{LEADING}"),
        ]
        for form in context.forms
        for direction in context.directions
    ]
    columns = [Column(label=t("column.form"), width="12%"), Column(label=t("column.direction"), width="20%")]
    columns += number_columns(context, labels)
    return table(t("localisation.stability"), columns, rows, note=t("localisation.stability.note"))


class _Grid(NamedTuple):
    labels: tuple[str, ...]
    sites: tuple[tuple[Site, ...], ...]
    """[row][layer]"""


def _grid(context: Context, kind: SiteKind) -> _Grid:
    """The sites of one kind by row (segment, or head) and layer."""
    t, plan = context.t, context.evidence.plan
    layers = range(plan.model.layers)
    if kind not in HEAD_KINDS:
        segments = plan.tracing.segments
        return _Grid(tuple(segments), tuple(tuple(Site(kind, layer, None, s) for layer in layers) for s in segments))
    rows = [(head, segment) for segment in plan.tracing.head_segments for head in range(plan.model.heads_of(kind))]
    several = len(plan.tracing.head_segments) > 1
    labels = tuple(t.join([t("chart.head", head=str(head)), *([s] if several else [])]) for head, s in rows)
    return _Grid(labels, tuple(tuple(Site(kind, layer, head, s) for layer in layers) for head, s in rows))


def _panel(context: Context, form: str, direction: Direction, kind: SiteKind) -> HeatMap:
    book, t, alpha = context.book, context.t, context.evidence.plan.judging.alpha
    grid = _grid(context, kind)
    keys = [[f"{form}.{direction}.{site.key}" for site in row] for row in grid.sites]
    named = [
        (i, j)
        for i, row in enumerate(keys)
        for j, key in enumerate(row)
        if (p := book.value(f"{key}.p_maxt")) is not None and p < alpha
    ]
    return HeatMap(
        title=t("chart.panel", kind=t(f"site.{kind}"), direction=t(f"direction.{direction}")),
        rows=grid.labels,
        values=tuple(tuple(book.value(key) for key in row) for row in keys),
        named=tuple(named),
    )


def _maps(context: Context, form: str) -> HeatMaps | None:
    t, kinds = context.t, context.evidence.plan.tracing.kinds
    panels = tuple(_panel(context, form, direction, kind) for kind in kinds for direction in context.directions)
    values = [abs(value) for panel in panels for row in panel.values for value in row if value is not None]
    if not values:
        return None
    limit = max(values) or 1.0
    known = (context.book.value(f"{form}.{direction}.placebo_floor") for direction in context.directions)
    floor = max((value for value in known if value is not None), default=None)
    scale = t("chart.scale")
    if floor is not None:
        scale = t("chart.scale.floor", scale=scale, floor=numbers.criterion(round(floor, 3)))
    return HeatMaps(
        caption=t("localisation.maps.caption", form=form),
        alt=t("localisation.maps.alt", form=form, panels=str(len(panels)), strongest=_strongest(context, form)),
        panels=panels,
        layer_axis=t("chart.layer"),
        scale_label=scale,
        limit=limit,
        floor=floor,
    )


def _ranked(context: Context, form: str, direction: Direction) -> list[tuple[Site, str]]:
    """Sites with an effect, largest absolute effect first."""
    keys = [(site, f"{form}.{direction}.{site.key}") for site in context.evidence.plan.sites]
    measured = [(site, key) for site, key in keys if context.book.value(key) is not None]
    return sorted(measured, key=lambda item: -abs(context.book.value(item[1]) or 0.0))


def _strongest(context: Context, form: str) -> str:
    """For the alternative text: the strongest site of each direction, in words."""
    said = []
    for direction in context.directions:
        for site, key in _ranked(context, form, direction)[:1]:
            value = numbers.signed(context.book.value(key) or 0.0, places=3)
            said.append(f"{context.t(f'direction.{direction}')}: {context.site_name(site)}, {value}")
    return "; ".join(said)


def _named(context: Context, form: str, direction: Direction) -> Block:
    """The sites that survive max-T, largest effect first."""
    t, book, alpha = context.t, context.book, context.evidence.plan.judging.alpha
    named = [
        (site, key)
        for site, key in _ranked(context, form, direction)
        if (p := book.value(f"{key}.p_maxt")) is not None and p < alpha
    ]
    said = t(f"direction.{direction}")
    if not named:
        return note(t("localisation.named.none", form=form, direction=said, alpha=numbers.criterion(alpha)))
    more = len(named) - SHOWN
    return table(
        t("localisation.named", form=form, direction=said, alpha=numbers.criterion(alpha)),
        _named_columns(context),
        [_named_row(context, site, key) for site, key in named[:SHOWN]],
        note=t("localisation.named.more", shown=str(SHOWN), more=str(more)) if more > 0 else None,
        dense=True,
    )


def _named_columns(context: Context) -> Sequence[Column]:
    labels = ("effect", "interval", "normalised", "p_maxt")
    segment = Column(label=context.t("column.segment"), width="13%")
    numeric = number_columns(context, labels)
    return [
        Column(label=context.t("column.site"), width="25%"),
        *number_columns(context, ("layer", "head")),
        segment,
        *numeric,
    ]


def _named_row(context: Context, site: Site, key: str) -> list[Cell]:
    book = context.book
    return [
        text_cell(context.t(f"site.{site.kind}")),
        Cell(text=str(site.layer), style="number"),
        Cell(text="" if site.head is None else str(site.head), style="number"),
        text_cell(context.t("segment.all") if site.segment == ALL else site.segment),
        book.number(key),
        book.interval(key),
        book.number(f"{key}.normalised"),
        book.number(f"{key}.p_maxt"),
    ]


def _together(context: Context, form: str) -> Block | None:
    """Two leading sites exchanged at once, in both directions; the largest excess first."""
    t, book = context.t, context.book
    begins = {direction: f"{form}.{direction}.joint." for direction in context.directions}
    found = [
        (direction, key)
        for direction, begin in begins.items()
        for key in book.results
        if key.startswith(begin) and not key.endswith((".together", ".p_maxt"))
    ]
    if not found:
        return None
    found.sort(key=lambda one: -abs(book.value(one[1]) or 0.0))
    rows = [
        [
            text_cell(t(f"direction.{direction}")),
            *(text_cell(context.site_words(site)) for site in key.removeprefix(begins[direction]).split("+")),
            book.number(f"{key}.together"),
            book.number(key),
            book.interval(key),
            book.number(f"{key}.p_maxt"),
        ]
        for direction, key in found[:SHOWN]
    ]
    columns = [Column(label=t("column.direction"), width="13%")]
    columns += [Column(label=t(f"column.{place}"), width="20%") for place in ("site", "other_site")]
    columns += number_columns(context, ("together", "excess", "interval", "p_maxt"))
    caption, explained = t("localisation.together", form=form), [t("localisation.together.note")]
    if len(found) > SHOWN:
        explained.append(t("localisation.named.more", shown=str(SHOWN), more=str(len(found) - SHOWN)))
    return table(caption, columns, rows, note=t.sentences(explained), dense=True)
