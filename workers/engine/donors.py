"""Recordings of unpatched prompts: what a patched run takes from them instead of computing it again."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from workers.engine.attention import Heads, Prefix
from workers.engine.entry import Entry, enter
from workers.engine.flight import Edit, Flight, Group, Run, Tap
from workers.engine.progress import StopCheck, never_stop
from workers.engine.subject import Subject


@dataclass(frozen=True, slots=True)
class Recording:
    """The activations of one unpatched prompt; lists are by layer."""

    entry: Entry
    resid: list[Float[Tensor, "position width"]]
    """At each layer's start, and last of all behind the last layer."""
    heads: list[Heads]
    """Queries and keys with their position encoding, values, and how scores are made of them."""
    z: list[Float[Tensor, "position heads_width"]]
    attn_out: list[Float[Tensor, "position width"]]
    mlp_out: list[Float[Tensor, "position width"]]
    neurons: list[Float[Tensor, "position neuron"]] = field(default_factory=list)
    """Hidden activations of the MLPs, kept where asked for; without neurons where a mixture of experts has none."""

    @property
    def length(self) -> int:
        return len(self.entry.ids)

    @property
    def decision(self) -> Float[Tensor, "tail width"]:
        """Residual stream behind the last layer at the last token, which is all that labels of one token need."""
        return self.resid[-1][-1:]

    def prefixes(self, start: int) -> list[Prefix]:
        """Keys and values in front of a position."""
        return [Prefix(heads.key[:, :start], heads.value[:, :start]) for heads in self.heads]


def record(
    subject: Subject, ids: Sequence[int], *, neurons: bool = False, should_stop: StopCheck = never_stop
) -> Recording:
    """Run one prompt unpatched and keep what patches of it, or from it, can need."""
    return record_entry(subject, enter(subject, ids), neurons=neurons, should_stop=should_stop)


def record_entry(
    subject: Subject,
    entry: Entry,
    *,
    edits: Sequence[Edit] = (),
    neurons: bool = False,
    should_stop: StopCheck = never_stop,
) -> Recording:
    """Run a prompt from its embeddings on, which may have been changed, with edits on the way."""
    tap = Tap(neurons=[] if neurons else None)
    group = Group(entry, start=0, prefixes=(), runs=(Run(0, entry.hidden, tuple(edits)),))
    Flight(subject, [group], tap=tap).run(should_stop=should_stop)
    return Recording(entry, tap.resid, tap.heads, tap.z, tap.attn_out, tap.mlp_out, tap.neurons or [])


def equal_beginning(one: Recording, other: Recording) -> int:
    """Number of first positions at which both prompts enter the layers with the same rows."""
    shared = min(one.length, other.length)
    differs = (one.entry.hidden[:shared] != other.entry.hidden[:shared]).any(dim=1)
    return int(differs.int().argmax()) if differs.any() else shared
