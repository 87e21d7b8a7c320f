"""The maps of a trace as heat maps, drawn as the report draws its own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_service.domain.plan import Direction
from audit_service.domain.sites import HEAD_KINDS, SiteKind
from workers.rendering.blocks import HeatMap, HeatMaps
from workers.rendering.charts import chart_png, chart_svg

Arrays = Mapping[str, NDArray[Any]]


def drawn(arrays: Arrays, *, tokens: Sequence[str], directions: Sequence[Direction], suffix: str) -> bytes:
    """Every map of effects, and the logit lens where it was asked for, on one scale; as .svg or .png.

    Effects are d patched minus d of the run that was patched, in nats; layers run from left to right.
    """
    effects = [panel for direction in directions for panel in _effects(arrays, tokens, direction)]
    panels = (*effects, *_lens(arrays, tokens))
    largest = max((abs(v) for panel in panels for row in panel.values for v in row if v is not None), default=0)
    chart = HeatMaps(
        caption="",
        alt="Effects by layer and position",
        panels=panels,
        layer_axis="layer",
        scale_label="nats",
        limit=largest or 1.0,
    )
    return chart_png(chart) if suffix == ".png" else chart_svg(chart).encode()


def _effects(arrays: Arrays, tokens: Sequence[str], direction: Direction) -> Iterator[HeatMap]:
    base = arrays["clean" if direction is Direction.NOISE else "corrupt"]
    for kind in SiteKind:
        cells = arrays.get(f"{direction}.{kind}", arrays.get(kind))
        if cells is not None:
            heads = [f"head {head}" for head in range(cells.shape[1])]
            yield _panel(f"{kind}, {direction}", heads if kind in HEAD_KINDS else _rows(cells, tokens), cells - base)


def _lens(arrays: Arrays, tokens: Sequence[str]) -> Iterator[HeatMap]:
    for side in ("clean", "corrupt"):
        if (cells := arrays.get(f"lens.{side}.d")) is not None:
            yield _panel(f"logit lens, {side} (log-odds)", _rows(cells, tokens), cells)


def _rows(cells: NDArray[Any], tokens: Sequence[str]) -> list[str]:
    if cells.shape[1] != len(tokens):
        return [str(column) for column in range(cells.shape[1])]
    return [f"{at} {token.strip()}" for at, token in enumerate(tokens)]


def _panel(title: str, rows: Sequence[str], cells: NDArray[Any]) -> HeatMap:
    values = tuple(tuple(float(value) for value in row) for row in np.asarray(cells).T)
    return HeatMap(title=title, rows=tuple(rows), values=values)
