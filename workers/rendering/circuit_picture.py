"""A task's circuit in one picture: where the answer is carried, by which heads, and by how few edges."""

import io
import re
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workers.engine.circuits import SIZES, Curve
from workers.engine.rolemaps import RoleMaps


class DrawnCircuit(NamedTuple):
    """A circuit's edges, as far as a picture needs to know them."""

    layers: int
    heads: int
    shared_by: int
    """Query heads that share a head of keys and values."""
    edges: tuple[tuple[str, str], ...]
    """(sender, reader) as ``Graph`` names them."""
    accounts_for: tuple[float, ...]
    """[edge] share of the faithfulness that is lost with it."""


def circuit_picture(title: str, maps: RoleMaps, curve: Curve, circuit: DrawnCircuit | None = None) -> bytes:
    """An SVG with three panels, and a fourth with the pruned circuit if there is one; equal input gives equal bytes."""
    ratios = (1.0, 1.2, 1.3) if circuit is None else (1.0, 1.2, 1.3, 2.0)
    figure = Figure(figsize=(4 * len(ratios), 4.6), layout="constrained")
    stream, heads, faith, *more = figure.subplots(1, len(ratios), width_ratios=ratios)
    if circuit is not None:
        _draw(more[0], circuit)
    largest = max(1e-9, float(np.abs(maps.residual).max()))
    shown = stream.imshow(maps.residual, cmap="RdBu", vmin=-largest, vmax=largest, aspect="auto", origin="lower")
    stream.set_xticks(range(len(maps.roles)), maps.roles, rotation=40, ha="right")
    stream.set(title="residual stream, by token", ylabel="layer")
    figure.colorbar(shown, ax=stream, label="share of the whole difference")
    largest = max(1e-9, float(np.abs(maps.heads).max()))
    shown = heads.imshow(maps.heads, cmap="RdBu", vmin=-largest, vmax=largest, aspect="auto", origin="lower")
    heads.set(title="heads, at all tokens", xlabel="head")
    figure.colorbar(shown, ax=heads)
    faith.semilogx(SIZES, curve.faithfulness, marker="o")
    faith.axhline(1, color="grey", linewidth=0.8)
    faith.set(title=f"CPR {curve.cpr:.2f}, CMD {curve.cmd:.2f}", xlabel="share of edges kept", ylabel="faithfulness")
    figure.suptitle(f"{title}: {len(maps.d_clean)} pairs")
    file = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": title, "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _draw(axes: Axes, circuit: DrawnCircuit) -> None:
    """Parts by layer, heads side by side and MLPs on their right; an edge is as wide as what it accounts for."""
    widest = max(abs(share) for share in circuit.accounts_for) or 1.0
    ends = [(_place(sender, circuit), _place(reader, circuit)) for sender, reader in circuit.edges]
    for ((x, y), (u, v)), share in zip(ends, circuit.accounts_for, strict=True):
        color, width = ("#1f5f99" if share >= 0 else "#b2182b"), 0.4 + 3.6 * abs(share) / widest
        axes.plot((x, u), (y, v), color=color, linewidth=width, alpha=0.6, zorder=1)
    for (x, y), name in {_place(name, circuit): name for edge in circuit.edges for name in edge}.items():
        axes.plot(x, y, "o", color="black", markersize=3, zorder=2)
        axes.annotate(_short(name), (x, y), xytext=(3, 3), textcoords="offset points", fontsize=6)
    axes.set_xticks([*range(circuit.heads), circuit.heads + 1], [*map(str, range(circuit.heads)), "MLP"])
    axes.set_ylim(-2, circuit.layers + 1)
    axes.set(title=f"pruned circuit, {len(circuit.edges)} edges", xlabel="head", ylabel="layer")


_PART = re.compile(r"a(?P<layer>\d+)\.h(?P<head>\d+)(\.(?P<part>[qkv]))?")


def _short(name: str) -> str:
    found = _PART.fullmatch(name)
    if found is None:
        return name
    return f"{found['layer']}.{found['head']}" + (" kv" if found["part"] in {"k", "v"} else "")


def _place(name: str, circuit: DrawnCircuit) -> tuple[float, float]:
    """Heads of keys and values stand in the middle of the query heads that share them."""
    middle = (circuit.heads - 1) / 2
    if name in {"input", "answer"}:
        return middle, (-1.0 if name == "input" else float(circuit.layers))
    if (found := _PART.fullmatch(name)) is None:
        return circuit.heads + 1.0, float(name.removeprefix("m"))
    head = float(found["head"])
    if found["part"] in {"k", "v"}:
        head = head * circuit.shared_by + (circuit.shared_by - 1) / 2
    return head, float(found["layer"])
