"""Recordings of unpatched prompts: what a patched run takes from them instead of computing it again."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from workers.engine.attention import Heads, Prefix
from workers.engine.entry import Entry, enter, same_beginning
from workers.engine.flight import Flight
from workers.engine.memory import with_less
from workers.engine.progress import StopCheck, never_stop
from workers.engine.runs import Edit, Group, Run, Stage, Tap
from workers.engine.shelves import Account, Memory, Shelf
from workers.engine.subject import Subject


@dataclass(frozen=True, slots=True)
class Recording:
    """The activations of one unpatched prompt, by layer; what its memory did not hold is computed again when read."""

    entry: Entry
    resid: Sequence[Float[Tensor, "position width"]]
    """At each layer's start, and last of all behind the last layer."""
    heads: Sequence[Heads]
    """Queries and keys with their position encoding, values, and how scores are made of them."""
    z: Sequence[Float[Tensor, "position heads_width"]]
    attn_out: Sequence[Float[Tensor, "position width"]]
    mlp_out: Sequence[Float[Tensor, "position width"]]
    neurons: Sequence[Float[Tensor, "position neuron"]] = ()
    """Hidden activations of the MLPs, kept where asked for; without neurons where a mixture of experts has none."""
    _: KW_ONLY
    blended: bool = False
    """No run of its own: zeros, or made from other recordings."""

    @property
    def length(self) -> int:
        return len(self.entry.ids)

    @property
    def decision(self) -> Float[Tensor, "tail width"]:
        """Residual stream behind the last layer at the last token, which is all that labels of one token need."""
        return self.resid[-1][-1:]

    def prefixes(self, start: int) -> Sequence[Prefix]:
        """Keys and values in front of a position, by layer."""
        return _Prefixes(self.heads, start)


class _Prefixes(Sequence[Prefix]):
    def __init__(self, heads: Sequence[Heads], start: int) -> None:
        self._heads, self._start = heads, start

    def __len__(self) -> int:
        return len(self._heads)

    def __getitem__(self, layer: Any) -> Any:  # noqa: ANN401 - the signature of a sequence
        heads = self._heads[layer]
        return Prefix(heads.key[:, : self._start], heads.value[:, : self._start])


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
    """Run a prompt from its embeddings on, which may have been changed, with edits on the way.

    Raises TooLittleMemory if the machine has not even room for one pass of which nothing is kept.
    """

    def keep(memory: Memory) -> Recording:
        return _record(subject, entry, edits, memory, neurons=neurons, should_stop=should_stop)

    return with_less(subject.memory, keep)


def _record(
    subject: Subject,
    entry: Entry,
    edits: Sequence[Edit],
    memory: Memory,
    *,
    neurons: bool,
    should_stop: StopCheck,
) -> Recording:
    account = Account(memory)
    for mask in {id(call): call.mask for call in entry.calls}.values():
        account.take(mask.nbytes, on_device=mask.is_cuda)
    resid, z, attn_out, mlp_out, hidden = (Shelf[Tensor](account) for _ in range(5))
    tap = Tap(resid, Shelf[Heads](account), z, attn_out, mlp_out, hidden if neurons else None)
    group = Group(entry, start=0, prefixes=(), runs=(Run(0, entry.hidden, tuple(edits)),))
    Flight(subject, [group], tap=tap).run(should_stop=should_stop)
    again = _Again(subject, entry, tuple(edits), tap)
    for name in _FIELDS:
        if isinstance(shelf := getattr(tap, name), Shelf):
            shelf.again = partial(again.value, name)
    return Recording(entry, tap.resid, tap.heads, tap.z, tap.attn_out, tap.mlp_out, tap.neurons or ())


_FIELDS = ("resid", "heads", "z", "attn_out", "mlp_out", "neurons")


class _Again:
    """Computes the layers of a recording once more, and remembers the last of them."""

    def __init__(self, subject: Subject, entry: Entry, edits: tuple[Edit, ...], tap: Tap) -> None:
        self._subject, self._entry, self._edits, self._tap = subject, entry, edits, tap
        self._layer = -1
        self._last = Tap()

    def value(self, name: str, layer: int) -> Any:  # noqa: ANN401 - what the shelf of that name holds
        """One layer's value; a residual stream may come out of the layer that is remembered, the last one must."""
        if name == "resid" and layer == self._subject.anatomy.layers:
            self._fly(layer - 1)
        if name == "resid" and layer and layer == self._layer + 1:
            return self._last.resid[-1]
        self._fly(layer)
        return getattr(self._last, name)[0]

    def _fly(self, layer: int) -> None:
        """Run the layers from the last stream that is there up to this one."""
        if layer == self._layer:
            return
        kept = self._tap.resid
        below = max((k for k in range(layer + 1) if isinstance(kept, Shelf) and kept.has(k)), default=-1)
        if max(below, 0) <= self._layer < layer:
            at, stream = self._layer + 1, self._last.resid[-1]
        else:
            at, stream = max(below, 0), kept[below] if below >= 0 else self._entry.hidden
        for number in range(at, layer + 1):
            self._one(number, stream, entered=number > 0 or below >= 0)
            stream = self._last.resid[-1]

    def _one(self, layer: int, stream: Tensor, *, entered: bool) -> None:
        """Run one layer; a stream that entered it before holds the edits that are made there."""
        edits = tuple(e for e in self._edits if not (entered and e.layer == layer and e.stage is Stage.RESID))
        tap = Tap(neurons=[] if self._tap.neurons is not None else None)
        group = Group(self._entry, start=0, prefixes=(), runs=(Run(layer, stream, edits),))
        Flight(self._subject, [group], tap=tap).run(until=layer + 1)
        self._layer, self._last = layer, tap


def equal_rows(one: Recording, other: Recording) -> tuple[bool, ...]:
    """Whether both prompts enter the layers with the same row, at each position that both have.

    None does where positions are encoded otherwise, or where one of the two is no run.
    """
    shared = min(one.length, other.length)
    if one.blended or other.blended or not same_beginning(one.entry, other.entry, shared):
        return (False,) * shared
    same: list[bool] = (one.entry.hidden[:shared] == other.entry.hidden[:shared]).all(dim=1).tolist()
    return tuple(same)
