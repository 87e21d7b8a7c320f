"""What flies: runs that resume a recorded one at some layer and position, what is changed in them, and what is kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeVar

from jaxtyping import Float, Int
from torch import Tensor

from workers.engine.attention import Heads, Prefix
from workers.engine.changes import Change
from workers.engine.entry import Entry
from workers.engine.shelves import Shelf


class Stage(StrEnum):
    """Where inside a layer an edit acts."""

    RESID = "resid"
    """The residual stream at the layer's start."""
    Q = "q"
    """Queries and keys as attention multiplies them, with their position encoding."""
    K = "k"
    V = "v"
    PATTERN = "pattern"
    Z = "z"
    ATTN_OUT = "attn_out"
    MID = "mid"
    """The residual stream between attention and MLP."""
    NEURONS = "neurons"
    MLP_OUT = "mlp_out"


class Edit(NamedTuple):
    """Rows of an activation that are changed in one run."""

    stage: Stage
    layer: int
    head: int | None
    rows: Int[Tensor, " edited"]
    """Counted from the run's first row."""
    values: Float[Tensor, "edited width"]
    """What is put in: the donor's rows; for a pattern its weights over all positions."""
    change: Change | None = None
    """How, where the run's own rows are not simply replaced."""

    def put_into(self, own: Float[Tensor, "edited width"]) -> Float[Tensor, "edited width"]:
        """Give what becomes of the run's own rows."""
        return self.values if self.change is None else self.change(own, self.values)


class Ahead(NamedTuple):
    """Rows that alone differ in the layer below the one where their run joins, and pass that layer by themselves.

    What is changed behind a layer's attention changes no other row of that layer.
    """

    at: Int[Tensor, " row"]
    """Counted from the run's first row, ascending."""
    rows: Float[Tensor, "row width"]
    """Residual stream at the start of the layer below."""
    z: Float[Tensor, "row heads_width"]
    """What its attention reads for them, as recorded."""


class Run(NamedTuple):
    """One run in flight."""

    joins: int
    """Layer at which it joins; the number of layers for a run that no layer changes any more."""
    rows: Float[Tensor, "row width"]
    """Residual stream at the start of that layer, from the group's first position to the last token."""
    edits: tuple[Edit, ...]
    ahead: Ahead | None = None
    """What goes ahead through the layer below and then takes the place of the run's own rows."""

    @property
    def first_layer(self) -> int:
        """The lowest layer at which anything of the run is computed."""
        return self.joins - (self.ahead is not None)


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that start at one position of prompts of one length and share what stands before."""

    entry: Entry
    """Any prompt of that length: only its masks and positions are used."""
    start: int
    prefixes: Sequence[Prefix]
    """[layer] keys and values of the positions before the start."""
    runs: tuple[Run, ...]
    """In order of joining."""
    tails: int = 1
    """How many of each run's last rows are read: the decision, and the labels' tokens behind it."""

    @property
    def length(self) -> int:
        """Rows of each run."""
        return len(self.entry.ids) - self.start


Kept = TypeVar("Kept")
Keeper = list[Kept] | Shelf[Kept]


@dataclass(slots=True)
class Tap:
    """What is kept of every layer for those who ask, as computed there: each field is [layer] over packed rows."""

    resid: Keeper[Tensor] = field(default_factory=list)
    heads: Keeper[Heads] = field(default_factory=list)
    z: Keeper[Tensor] = field(default_factory=list)
    attn_out: Keeper[Tensor] = field(default_factory=list)
    mlp_out: Keeper[Tensor] = field(default_factory=list)
    neurons: Keeper[Tensor] | None = None
    """Kept for those who give a list."""
