"""Where in the network an activation is exchanged."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple


class SiteKind(StrEnum):
    """Names follow TransformerLens, the field's common vocabulary."""

    RESID_PRE = "resid_pre"
    RESID_MID = "resid_mid"
    RESID_POST = "resid_post"
    ATTN_OUT = "attn_out"
    MLP_OUT = "mlp_out"
    NEURONS = "neurons"
    """Hidden activations of the MLP, in front of its last projection."""
    Z = "z"
    """Output of one attention head, before the output projection."""
    Q = "q"
    K = "k"
    V = "v"
    PATTERN = "pattern"


WINDOWED = frozenset({SiteKind.ATTN_OUT, SiteKind.MLP_OUT})
"""Kinds that several layers write side by side; of the residual stream the last layer of a window decides alone."""
WRITERS = frozenset({SiteKind.Z, SiteKind.ATTN_OUT, SiteKind.MLP_OUT})
"""Parts that add to the residual stream; the stream itself contains all parts before it."""
HEAD_KINDS = frozenset({SiteKind.Z, SiteKind.Q, SiteKind.K, SiteKind.V, SiteKind.PATTERN})
KV_KINDS = frozenset({SiteKind.K, SiteKind.V})
"""Kinds that grouped queries share: they have as many heads as there are keys and values."""
POSITIONED = frozenset({SiteKind.Q, SiteKind.K, SiteKind.PATTERN})
"""Kinds that carry their token's position, so that they have a counterpart at the same position alone."""
ALL = "all"
"""Segment name that stands for every position."""
DECISION = "decision"
"""Segment name of the last prompt token."""


class Site(NamedTuple):
    """One place of exchange: a layer's activation of one kind, at the positions of one segment."""

    kind: SiteKind
    layer: int
    head: int | None
    """Only for head sites."""
    segment: str
    """A declared segment, "decision" or "all"."""
    width: int = 1
    """Neighbouring layers that are exchanged at once, this one first."""

    @property
    def key(self) -> str:
        head = "" if self.head is None else f".{self.head}"
        last = "" if self.width == 1 else f"-{self.layer + self.width - 1}"
        return f"{self.kind}.L{self.layer}{last}{head}.{self.segment}"

    @property
    def parts(self) -> "tuple[Site, ...]":
        """The single layers of a window; itself without one."""
        return tuple(self._replace(layer=self.layer + step, width=1) for step in range(self.width))


def site_grid(
    kinds: Iterable[SiteKind],
    *,
    layers: int,
    heads: int,
    kv_heads: int | None = None,
    segments: Sequence[str],
    head_segments: Sequence[str] = (ALL,),
    windows: Sequence[int] = (1,),
    steps: Mapping[SiteKind, int] | None = None,
) -> tuple[Site, ...]:
    """Every site of the kinds, in canonical order: width of the window, kind, layer, head, segment.

    Head sites use ``head_segments``; the others use ``segments``. Windows wider than one layer are made of the kinds in
    ``WINDOWED`` alone. Of kinds with a step only every so manyeth layer is taken, from the first on. Without
    ``kv_heads`` each head has a key and a value of its own.
    """
    counts = dict.fromkeys(HEAD_KINDS, heads) | dict.fromkeys(KV_KINDS, heads if kv_heads is None else kv_heads)
    return tuple(
        Site(kind, layer, head, segment, width)
        for width in sorted(set(windows))
        for kind in kinds
        if width == 1 or kind in WINDOWED
        for layer in range(0, layers - width + 1, (steps or {}).get(kind, 1))
        for head in (range(counts[kind]) if kind in HEAD_KINDS else [None])
        for segment in (head_segments if kind in HEAD_KINDS else segments)
    )
