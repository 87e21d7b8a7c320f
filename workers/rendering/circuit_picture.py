"""A task's circuit in one picture: where the answer is carried, by which heads, and by how few edges."""

import io

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from workers.engine.circuits import SIZES, Curve
from workers.engine.rolemaps import RoleMaps


def circuit_picture(title: str, maps: RoleMaps, curve: Curve) -> bytes:
    """An SVG with three panels; equal input gives equal bytes."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    stream, heads, faith = figure.subplots(1, 3, width_ratios=(1.0, 1.2, 1.3))
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
