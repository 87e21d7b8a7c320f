"""Charts as SVG: crisp in print, the same bytes for the same data, readable without colour."""

import io
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from workers.rendering.blocks import ForestChart, HeatMap, HeatMaps, Interval

WIDTH = 6.7
"""Inches: the text width of the page."""
INK, MUTED, ACCENT, LINE = "#1b2733", "#5d6975", "#123a5e", "#b3261e"
MAP = "RdBu_r"
"""Diverging, safe for colour-blind readers; signs are marked besides for print without colour."""
_FONTS = "'Plex Sans', 'Noto Sans CJK TC', sans-serif"
_SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text: searchable, and set in the document's own font
    "svg.hashsalt": "audit-evidence",  # otherwise ids inside the SVG are random
    "text.parse_math": False,  # a name with dollar signs is a name
    "font.family": ["DejaVu Sans"],
    "font.size": 7.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.5,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
}


@contextmanager
def _style() -> Iterator[None]:
    """Our settings; glyphs that the measuring font lacks are no fault, the document's fonts have them."""
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        warnings.filterwarnings("ignore", message=r"Matplotlib currently does not support")
        yield


def _svg(figure: Figure) -> str:
    """The figure as an SVG element, without time stamps."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", dpi=160, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace("'DejaVu Sans', sans-serif", _FONTS).replace("'DejaVu Sans'", _FONTS)
    return text.replace("<image ", '<image image-rendering="crisp-edges" ')


def chart_svg(chart: ForestChart | HeatMaps) -> str:
    """The chart as an SVG element; its text stays text."""
    with _style():
        return _svg(_figure(chart))


CHINESE = "Noto Sans CJK TC"
_WIDE = re.compile("[\u2e80-\uffff\U00020000-\U0003ffff]")


def drawn_alike(chart: ForestChart | HeatMaps) -> bool:
    """Whether this machine draws the chart as any other does: it has the fonts that the text needs.

    The measuring font comes with the library; Chinese is drawn in a font of the machine.
    """
    drawn = chart.model_dump_json(exclude={"caption", "alt"})
    return not _WIDE.search(drawn) or CHINESE in font_manager.get_font_names()


def chart_png(chart: ForestChart | HeatMaps) -> bytes:
    """The chart as a picture, for documents that take no SVG."""
    stream = io.BytesIO()
    with _style():
        mpl.rcParams["font.family"] = ["DejaVu Sans", CHINESE]
        _figure(chart).savefig(stream, format="png", dpi=200, metadata={"Software": None})
    return stream.getvalue()


def _figure(chart: ForestChart | HeatMaps) -> Figure:
    return _forest(chart) if isinstance(chart, ForestChart) else _heatmaps(chart)


def _forest(chart: ForestChart) -> Figure:
    """Estimates with their intervals under each other, lines to compare with across."""
    rows = len(chart.intervals)
    figure = Figure(figsize=(WIDTH, 0.62 + 0.25 * rows))
    axes = figure.add_axes((0.30, 0.44 / (0.62 + 0.25 * rows), 0.68, 0.25 * rows / (0.62 + 0.25 * rows)))
    for row, interval in enumerate(reversed(chart.intervals)):
        _whisker(axes, row, interval)
    axes.axvline(chart.zero, color=MUTED, linewidth=0.6)
    for line in chart.lines:
        axes.axvline(line, color=LINE, linewidth=0.9, linestyle=(0, (4, 2)))
    if chart.lines:
        place = max(chart.lines)
        axes.annotate(
            chart.line_label,
            (place, rows - 0.5),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=6.5,
            color=LINE,
        )
    axes.set_yticks(range(rows), [_shortened(i.label) for i in reversed(chart.intervals)])
    axes.set_ylim(-0.6, rows - 0.4)
    axes.margins(x=0.08)
    axes.set_xlabel(chart.axis)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _shortened(label: str) -> str:
    """Long names would leave the page; the table beside the chart has them in full."""
    return label if len(label) <= 34 else label[:33] + "…"


def _whisker(axes: Axes, row: int, interval: Interval) -> None:
    color = MUTED if interval.hollow else ACCENT
    if interval.low is not None and interval.high is not None:
        axes.plot([interval.low, interval.high], [row, row], color=color, linewidth=1.4, solid_capstyle="butt")
        for end in (interval.low, interval.high):
            axes.plot([end, end], [row - 0.13, row + 0.13], color=color, linewidth=0.9)
    face = "white" if interval.hollow else color
    axes.plot([interval.value], [row], "o", markersize=4.6, markerfacecolor=face, markeredgecolor=color, zorder=5)


def _heatmaps(chart: HeatMaps) -> Figure:
    """Panels on one colour scale, two columns wide, the scale below them."""
    columns = 2 if len(chart.panels) > 1 else 1
    pairs = [chart.panels[i : i + columns] for i in range(0, len(chart.panels), columns)]
    heights = [_height(row[0]) for row in pairs]
    gap, top, bottom = 0.30, 0.24, 0.72
    total = top + sum(heights) + gap * (len(heights) - 1) + bottom
    left, right, between = 0.72, 0.06, 0.16
    width = (WIDTH - left - right - between * (columns - 1)) / columns
    figure = Figure(figsize=(WIDTH, total))
    y = total - top
    for index, (row, height) in enumerate(zip(pairs, heights, strict=True)):
        y -= height
        for column, panel in enumerate(row):
            box = ((left + column * (width + between)) / WIDTH, y / total, width / WIDTH, height / total)
            last = chart.layer_axis if index == len(pairs) - 1 else None
            _panel(figure.add_axes(box), panel, limit=chart.limit, labelled=column == 0, layer_axis=last)
        y -= gap
    _scale(figure, chart, box=(left / WIDTH, 0.24 / total, 0.42, 0.10 / total))
    return figure


def _height(panel: HeatMap) -> float:
    """Inches: few rows are drawn high enough to read, many low enough to stay on the page."""
    return min(2.6, max(0.45, len(panel.rows) * (0.2 if len(panel.rows) <= 6 else 0.125)))


def _panel(axes: Axes, panel: HeatMap, *, limit: float, labelled: bool, layer_axis: str | None) -> None:
    values = np.array([[np.nan if v is None else v for v in row] for row in panel.values], dtype=float)
    axes.set_facecolor("#d9d9d9")
    axes.imshow(values, cmap=MAP, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    _dashes(axes, values, limit)
    if panel.named:
        _frames(axes, panel.named)
    axes.set_title(panel.title, fontsize=7.2, loc="left", pad=3)
    step = max(1, round(values.shape[1] / 6 / 5) * 5) if values.shape[1] > 8 else 1
    ticks = range(0, values.shape[1], step)
    axes.set_xticks(ticks, [str(tick) for tick in ticks] if layer_axis else [])
    if layer_axis:
        axes.set_xlabel(layer_axis, labelpad=1.5)
    every = max(1, -(-len(panel.rows) // 10))
    shown = range(0, len(panel.rows), every)
    axes.set_yticks(shown, [_shortened(panel.rows[i]) for i in shown] if labelled else [])
    axes.tick_params(length=1.8, pad=2, labelsize=6.3)


def _dashes(axes: Axes, values: NDArray[np.float64], limit: float) -> None:
    """A dash in every clearly negative cell: the sign without colour."""
    for color, strong in ((INK, False), ("white", True)):
        places = [
            (x, y)
            for (y, x), value in np.ndenumerate(values)
            if value < -0.04 * limit and bool(value < -0.6 * limit) is strong
        ]
        if places:
            axes.plot(*_strokes([[(x - 0.22, y), (x + 0.22, y)] for x, y in places]), color=color, linewidth=0.7)


def _frames(axes: Axes, named: Iterable[tuple[int, int]]) -> None:
    """A frame around each site that survives the correction."""
    h = 0.46
    corners = [[(x - h, y - h), (x + h, y - h), (x + h, y + h), (x - h, y + h), (x - h, y - h)] for y, x in named]
    axes.plot(*_strokes(corners), color="black", linewidth=0.9, solid_joinstyle="miter")


def _strokes(lines: list[list[tuple[float, float]]]) -> tuple[list[float], list[float]]:
    """Many lines as one path, broken by NaN: one SVG element in place of hundreds."""
    points = [point for line in lines for point in (*line, (np.nan, np.nan))]
    return [x for x, _ in points], [y for _, y in points]


def _scale(figure: Figure, chart: HeatMaps, *, box: tuple[float, float, float, float]) -> None:
    axes = figure.add_axes(box)
    gradient = np.linspace(-1, 1, 101)[None, :]
    extent = (-chart.limit, chart.limit, 0, 1)
    axes.imshow(gradient, cmap=MAP, aspect="auto", extent=extent, interpolation="nearest")
    for place in (-chart.floor, chart.floor) if chart.floor is not None and chart.floor < chart.limit else ():
        axes.axvline(place, color=LINE, linewidth=0.9, linestyle=(0, (2, 1)))
    axes.set_yticks([])
    axes.set_xticks([-chart.limit, 0, chart.limit])
    axes.xaxis.set_major_formatter("{x:+.3f}")
    axes.tick_params(length=1.8, pad=1.5, labelsize=6.3)
    axes.text(1.03, 0.5, chart.scale_label, transform=axes.transAxes, va="center", fontsize=6.8)
