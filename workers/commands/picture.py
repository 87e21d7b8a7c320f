"""The maps of a trace as heat maps, drawn as the report draws its own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_service.domain.plan import Direction
from audit_service.domain.sitenames import sites_named
from audit_service.domain.sites import HEAD_KINDS, SiteKind
from workers.rendering.blocks import HeatMap, HeatMaps
from workers.rendering.charts import chart_png, chart_svg

Arrays = Mapping[str, NDArray[Any]]


def drawn(arrays: Arrays, *, tokens: Sequence[str], directions: Sequence[Direction], suffix: str) -> bytes:
    """Every map of effects, paths by receiver and the logit lens where asked for, on one scale; as .svg or .png.

    Effects are d patched minus d of the run that was patched, in nats; layers run from left to right. Cells that were
    not measured stay empty, and estimates have panels of their own that say so.
    """
    layers = _layers(arrays)
    effects = [panel for direction in directions for panel in _effects(arrays, tokens, direction, layers)]
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


def _layers(arrays: Arrays) -> int:
    """Layers that panels of paths show: as many as the maps have, or as a path names."""
    names = [str(name) for name in arrays.get("paths.names", ())]
    named = [site.layer + 1 for name in names for end in name.split(" -> ") for site in sites_named(end)]
    maps = [len(cells) for name, cells in arrays.items() if name.rpartition(".")[2] in list(SiteKind)]
    return max([*named, *maps], default=0)


def _effects(arrays: Arrays, tokens: Sequence[str], direction: Direction, layers: int) -> Iterator[HeatMap]:
    base = arrays["clean" if direction is Direction.NOISE else "corrupt"]
    for kind in SiteKind:
        cells = arrays.get(f"{direction}.{kind}", arrays.get(kind))
        if cells is not None:
            heads = [f"head {head}" for head in range(cells.shape[1])]
            rows = heads if kind in HEAD_KINDS else _rows(cells, tokens)
            yield _panel(f"{kind}, {direction}", rows, cells - base)
            estimates = arrays.get(f"{direction}.{kind}.estimate", arrays.get(f"{kind}.estimate"))
            if estimates is not None:
                yield _panel(f"{kind}, {direction}: estimates, not measured", rows, estimates)
    paths = arrays.get(f"{direction}.paths", arrays.get("paths"))
    if paths is not None:
        yield from _paths([str(name) for name in arrays["paths.names"]], paths - base, direction, layers)


def _paths(names: Sequence[str], effects: NDArray[Any], direction: Direction, layers: int) -> Iterator[HeatMap]:
    """Panels of receivers by layer, one for each sender, or of senders, if they are more; joint sets have no place."""
    ends = [name.split(" -> ") for name in names]
    fixed = int(len({sender for sender, _ in ends}) > len({receiver for _, receiver in ends}))
    found: dict[str, dict[str, dict[int, float]]] = {}
    for both, effect in zip(ends, effects.tolist(), strict=True):
        sites = sites_named(both[1 - fixed])
        if len(sites) == 1:
            [site] = sites
            ways = f"{('from', 'to')[fixed]} {both[fixed]}: {site.kind}"
            title, row = (ways, site.segment) if site.head is None else (f"{ways} {site.segment}", f"head {site.head}")
            found.setdefault(title, {}).setdefault(row, {})[site.layer] = effect
    for title, rows in found.items():
        cells = np.array([[row.get(layer, np.nan) for row in rows.values()] for layer in range(layers)])
        yield _panel(f"{title}, {direction}", list(rows), cells)


def _lens(arrays: Arrays, tokens: Sequence[str]) -> Iterator[HeatMap]:
    for side in ("clean", "corrupt"):
        if (cells := arrays.get(f"lens.{side}.d")) is not None:
            yield _panel(f"logit lens, {side} (log-odds)", _rows(cells, tokens), cells)


def _rows(cells: NDArray[Any], tokens: Sequence[str]) -> list[str]:
    if cells.shape[1] != len(tokens):
        return [str(column) for column in range(cells.shape[1])]
    return [f"{at} {token.strip()}" for at, token in enumerate(tokens)]


def _panel(title: str, rows: Sequence[str], cells: NDArray[Any]) -> HeatMap:
    values = tuple(tuple(None if np.isnan(value) else float(value) for value in row) for row in np.asarray(cells).T)
    return HeatMap(title=title, rows=tuple(rows), values=values)
