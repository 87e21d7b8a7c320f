"""Recordings of unpatched prompts: what a patched run takes from them instead of computing it again."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from workers.engine.attention import Prefix
from workers.engine.entry import Entry, enter
from workers.engine.flight import Flight, Group, Run, Tap
from workers.engine.loading import Subject
from workers.engine.progress import StopCheck, never_stop


@dataclass(frozen=True, slots=True)
class Recording:
    """The activations of one unpatched prompt; lists are by layer."""

    entry: Entry
    resid: list[Float[Tensor, "position width"]]
    """At each layer's start, and last of all behind the last layer."""
    key: list[Float[Tensor, "kv_head position key_width"]]
    value: list[Float[Tensor, "kv_head position value_width"]]
    z: list[Float[Tensor, "position heads_width"]]
    attn_out: list[Float[Tensor, "position width"]]
    mlp_out: list[Float[Tensor, "position width"]]

    @property
    def length(self) -> int:
        return len(self.entry.ids)

    @property
    def decision(self) -> Float[Tensor, " width"]:
        """Residual stream behind the last layer at the last token."""
        return self.resid[-1][-1]

    def prefixes(self, start: int) -> list[Prefix]:
        """Keys and values in front of a position."""
        return [Prefix(k[:, :start], v[:, :start]) for k, v in zip(self.key, self.value, strict=True)]


def record(subject: Subject, ids: Sequence[int], *, should_stop: StopCheck = never_stop) -> Recording:
    """Run one prompt unpatched and keep what patches of it, or from it, can need."""
    entry, tap = enter(subject, ids), Tap()
    group = Group(entry, start=0, prefixes=(), runs=(Run(0, entry.hidden, ()),))
    Flight(subject, [group], tap=tap).run(should_stop=should_stop)
    return Recording(entry, tap.resid, tap.key, tap.value, tap.z, tap.attn_out, tap.mlp_out)
