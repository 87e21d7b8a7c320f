"""The decoder as a graph of parts that send and read, run with single edges between them exchanged.

Senders are the embeddings, every head and every MLP: each adds its output to the residual stream. Readers are the
query input of every head, the key and the value input of every key-value head, every MLP and the answer: each reads the
sum of all senders before it. An edge is a sender as one reader hears it. In a run of a circuit every edge outside it
carries what the sender sent in the corrupt run, and every edge of it what the sender sends now (Conmy et al. 2023,
section 2).

The model's own layers do the computing, so one implementation serves every family whose parts add up: for the readers
of a layer's attention the layer receives one copy of the stream for each reader, and from each copy only that reader's
queries, keys or values are used.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from audit_service.domain.labels import LabelTokens
from audit_service.errors import InvalidTrace
from workers.engine.anatomy import Anatomy, Block
from workers.engine.answers import unpatched
from workers.engine.attention import Heads, packed_attention, weights_of
from workers.engine.donors import record
from workers.engine.entry import Entry, enter, take_positions
from workers.engine.families import Flow
from workers.engine.hooks import narrowed, on_output, summed
from workers.engine.progress import Keep, StopCheck, keep_nothing, never_stop, stop_if_asked
from workers.engine.readout import check_labels, logits
from workers.engine.selfcheck import TOLERANCE
from workers.engine.subject import Subject

ROWS_AT_ONCE = 4096
"""Rows of the residual stream, counting every reader's copy, that one layer takes at once."""


class Edge(NamedTuple):
    """A sender as one reader hears it."""

    sender: str
    reader: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Which senders each reader hears, in a decoder of this shape."""

    layers: int
    heads: int
    kv_heads: int
    parallel: bool
    """Attention and MLP of a layer read the same stream."""

    @classmethod
    def of(cls, anatomy: Anatomy) -> "Graph":
        return cls(anatomy.layers, anatomy.heads, anatomy.kv_heads, anatomy.parallel)

    @property
    def senders(self) -> list[str]:
        """The embeddings, "input"; then of each layer its heads, "a0.h0" and so on, and its MLP, "m0"."""
        parts = [[*(f"a{layer}.h{head}" for head in range(self.heads)), f"m{layer}"] for layer in range(self.layers)]
        return ["input", *(name for layer in parts for name in layer)]

    @property
    def readers(self) -> list[str]:
        """Of each layer the heads' "a0.h0.q", the key-value heads' "a0.h0.k" and "a0.h0.v", and "m0"; last "answer"."""
        counts = {"q": self.heads, "k": self.kv_heads, "v": self.kv_heads}
        parts = [
            [*(f"a{layer}.h{head}.{part}" for part, count in counts.items() for head in range(count)), f"m{layer}"]
            for layer in range(self.layers)
        ]
        return [*(name for layer in parts for name in layer), "answer"]

    @property
    def copies(self) -> int:
        """Readers in one layer's attention."""
        return self.heads + 2 * self.kv_heads

    def heard(self, layer: int, *, mlp: bool) -> int:
        """How many of the senders, which are in order, a layer's attention or MLP hears."""
        return 1 + layer * (self.heads + 1) + self.heads * (mlp and not self.parallel)

    @property
    def edges(self) -> NDArray[np.bool_]:
        """[reader, sender] whether there is such an edge."""
        found = np.zeros((len(self.readers), len(self.senders)), dtype=np.bool_)
        for layer in range(self.layers):
            first = layer * (self.copies + 1)
            found[first : first + self.copies, : self.heard(layer, mlp=False)] = True
            found[first + self.copies, : self.heard(layer, mlp=True)] = True
        found[-1] = True
        return found

    def named(self, edges: NDArray[np.bool_]) -> list[Edge]:
        """The marked edges by name."""
        senders, readers = self.senders, self.readers
        return [Edge(senders[sender], readers[reader]) for reader, sender in zip(*np.nonzero(edges), strict=True)]


@runtime_checkable
class Streams(Protocol):
    """What each reader hears, as the senders send one after another."""

    def hear(self, first: int, count: int) -> Float[Tensor, "run reader position width"]:
        """The streams of ``count`` readers from number ``first`` on."""

    def send(self, outputs: Float[Tensor, "run sender position width"]) -> None:
        """Add the outputs of the next senders."""


class Wiring:
    """One prompt's way through a model, reader by reader."""

    def __init__(self, subject: Subject, entry: Entry) -> None:
        _require_parts_that_add_up(subject)
        self.graph = Graph.of(subject.anatomy)
        self._subject, self._entry = subject, entry
        self._found: Heads | None = None

    def run(
        self, streams: Streams, hidden: Float[Tensor, "run position width"], *, should_stop: StopCheck = never_stop
    ) -> Float[Tensor, "run width"]:
        """Let the embeddings and then all parts send; the stream that the answer hears at the last position."""
        graph = self.graph
        streams.send(hidden[:, None])
        with packed_attention(self._subject.model, self._attend):
            for layer, block in enumerate(self._subject.anatomy.blocks):
                stop_if_asked(should_stop)
                first = layer * (graph.copies + 1)
                to_heads = streams.hear(first, graph.copies)
                heard_before = streams.hear(first + graph.copies, 1) if graph.parallel else None
                streams.send(self._heads(layer, block, to_heads))
                to_mlp = streams.hear(first + graph.copies, 1) if heard_before is None else heard_before
                streams.send(self._mlp(layer, block, to_mlp))
        return streams.hear(len(graph.readers) - 1, 1)[:, 0, -1]

    def _heads(
        self, layer: int, block: Block, streams: Float[Tensor, "run reader position width"]
    ) -> Float[Tensor, "run head position width"]:
        """What each head adds to the stream; the output projection's bias is divided among them."""
        runs, _, length, _ = streams.shape
        self._call(layer, block, streams)
        assert self._found is not None  # noqa: S101 - the layer has just called its attention
        z = self._attended(self._found, layer, runs, length)
        weight = block.out_proj.get_parameter("weight")
        from_z = weight if type(block.out_proj).__name__ == "Conv1D" else weight.T
        outputs = torch.einsum("rhpw,hwd->rhpd", z, from_z.view(self.graph.heads, z.shape[-1], -1))
        bias = getattr(block.out_proj, "bias", None)
        return block.multiplier * (outputs if bias is None else outputs + bias / self.graph.heads)

    def _attended(self, found: Heads, layer: int, runs: int, length: int) -> Float[Tensor, "run head position width"]:
        """Attention with each head's queries, keys and values taken from the copy of the stream that it hears."""
        heads, kv_heads = self.graph.heads, self.graph.kv_heads
        shape = (runs, self.graph.copies, length, -1)
        query = torch.stack([found.query[h].view(shape)[:, h] for h in range(heads)], dim=1)
        key = torch.stack([found.key[h].view(shape)[:, heads + h] for h in range(kv_heads)], dim=1)
        value = torch.stack([found.value[h].view(shape)[:, heads + kv_heads + h] for h in range(kv_heads)], dim=1)
        key, value = (part.repeat_interleave(heads // kv_heads, dim=1) for part in (key, value))
        sinks = None if found.sinks is None else found.sinks.expand(runs, -1)
        return weights_of(query @ key.transpose(2, 3), found, self._entry.calls[layer].mask, sinks=sinks) @ value

    def _mlp(
        self, layer: int, block: Block, streams: Float[Tensor, "run one position width"]
    ) -> Float[Tensor, "run one position width"]:
        """What the MLP adds to the stream: the layer runs with attention silenced, so that it hears this alone."""
        outputs: list[Tensor] = []
        with ExitStack() as stack:
            stack.enter_context(_silenced(block))
            stack.enter_context(summed(block.mlp_beside, block.mlp_add))
            stack.enter_context(on_output(block.mlp_add, lambda rows: outputs.append(rows.clone())))
            self._call(layer, block, streams, whole=True)
        return block.multiplier * outputs[0].view_as(streams)

    def _call(
        self, layer: int, block: Block, streams: Float[Tensor, "run reader position width"], *, whole: bool = False
    ) -> None:
        runs, readers, length, width = streams.shape
        call = self._entry.calls[layer]
        places = torch.arange(length, device=streams.device).repeat(runs * readers)
        by_position = {name: take_positions(value, places) for name, value in call.by_position.items()}
        with ExitStack() as stack:
            if not whole:  # nothing behind queries, keys and values is needed
                one = places[:1]
                stack.enter_context(narrowed(block.out_proj, block.out_proj, one))
                stack.enter_context(narrowed(block.mlp_in, block.mlp_out, one))
            block.layer(streams.reshape(1, -1, width), **call.constant, **by_position, attention_mask=None)

    def _attend(self, heads: Heads) -> Float[Tensor, "row head value_width"]:
        self._found = heads
        return heads.value.new_zeros(heads.query.shape[1], heads.query.shape[0], heads.value.shape[-1])


@contextmanager
def _silenced(block: Block) -> Iterator[None]:
    """Let attention add nothing."""

    def silence(rows: Tensor) -> None:
        rows.zero_()

    with on_output(block.attn_add, silence):
        yield


class Mixed:
    """Streams of several circuits at once: their edges carry what is sent now, all others the corrupt run's outputs."""

    def __init__(
        self, circuits: Bool[Tensor, "run reader sender"], corrupt: Float[Tensor, "sender position width"]
    ) -> None:
        self._circuits, self._corrupt = circuits.to(corrupt.dtype), corrupt
        self._changes = corrupt.new_zeros(len(circuits), *corrupt.shape)
        self._stream = torch.zeros_like(corrupt[0])
        self._sent = 0

    def hear(self, first: int, count: int) -> Float[Tensor, "run reader position width"]:
        edges = self._circuits[:, first : first + count, : self._sent]
        changes: Tensor = edges @ self._changes[:, : self._sent].flatten(2)
        return self._stream + changes.view(*changes.shape[:2], *self._stream.shape)

    def send(self, outputs: Float[Tensor, "run sender position width"]) -> None:
        senders = slice(self._sent, self._sent + outputs.shape[1])
        self._changes[:, senders] = outputs - self._corrupt[senders]
        self._stream = self._stream + self._corrupt[senders].sum(0)
        self._sent = senders.stop


class Whole:
    """Streams of the whole model; what was sent and heard is kept, each reader's copy by itself."""

    def __init__(self) -> None:
        self.sent: list[Float[Tensor, "run sender position width"]] = []
        self.heard: list[Float[Tensor, "run reader position width"]] = []
        self._stream: Tensor | None = None

    def hear(self, first: int, count: int) -> Float[Tensor, "run reader position width"]:  # noqa: ARG002
        assert self._stream is not None  # noqa: S101 - the embeddings send before anyone hears
        self.heard.append(self._stream.unsqueeze(1).repeat(1, count, 1, 1))
        return self.heard[-1]

    def send(self, outputs: Float[Tensor, "run sender position width"]) -> None:
        self.sent.append(outputs)
        total = outputs.sum(1)
        self._stream = total if self._stream is None else self._stream + total


class Contrast:
    """A clean and a corrupt prompt of equal length, whose circuits are run."""

    def __init__(
        self,
        subject: Subject,
        clean: Sequence[int],
        corrupt: Sequence[int],
        labels: LabelTokens,
        *,
        keep: Keep = keep_nothing,
    ) -> None:
        """``keep`` keeps what is measured of circuits, so that stopped work can go on."""
        if len(labels.beginnings) > 1:
            raise InvalidTrace(
                "circuits are found for labels of one token each", remedy="declare labels of one token each"
            )
        if len(clean) != len(corrupt) or tuple(clean) == tuple(corrupt):
            raise InvalidTrace(
                f"circuits need two different prompts of equal length, not of {len(clean)} and {len(corrupt)} tokens"
                + (" that are the same" if tuple(clean) == tuple(corrupt) else ""),
                remedy="use cues of equal token length",
            )
        check_labels(subject, labels)
        self.subject, self.labels, self.keep = subject, labels, keep
        self.clean, self.corrupt = enter(subject, clean), enter(subject, corrupt)
        self.wiring = Wiring(subject, self.clean)
        self.graph = self.wiring.graph
        with torch.no_grad():
            streams = Whole(), Whole()
            ends = [
                self.wiring.run(stream, entry.hidden[None])
                for stream, entry in zip(streams, (self.clean, self.corrupt), strict=True)
            ]
            self.clean_sent, self.corrupt_sent = (torch.cat(stream.sent, 1)[0] for stream in streams)
            self.d_clean, self.d_corrupt = (float(self.read(end)) for end in ends)
        self._require_the_models_own_values()

    def _require_the_models_own_values(self) -> None:
        recordings = [record(self.subject, entry.ids) for entry in (self.clean, self.corrupt)]
        own = unpatched(self.subject, recordings, self.labels)
        apart = max(abs(float(value) - ours) for value, ours in zip(own, (self.d_clean, self.d_corrupt), strict=True))
        if apart > TOLERANCE.get(self.subject.dtype, TOLERANCE[torch.float32]):
            raise InvalidTrace(
                f"summed part by part, the decision of this {self.subject.anatomy.family} deviates by {apart:.2g} nats",
                remedy="load it in float32, or patch sites instead of edges",
            )

    def read(self, stream: Float[Tensor, "run width"]) -> Float[Tensor, " run"]:
        """Decision values, with their gradient where one is asked for."""
        rows, split = logits(self.subject, stream, tokens=self.labels.firsts), len(self.labels.favorable)
        return rows[:, :split].logsumexp(1) - rows[:, split:].logsumexp(1)

    def decisions(self, circuits: NDArray[np.bool_], *, should_stop: StopCheck = never_stop) -> NDArray[np.float32]:
        """Decision value [circuit] of the clean prompt when only the edges [circuit, reader, sender] carry it."""
        name = hashlib.sha256(np.packbits(circuits).tobytes()).hexdigest()[:32]
        return self.keep(f"circuits.{name}", lambda: self._decisions(circuits, should_stop))

    @torch.no_grad()
    def _decisions(self, circuits: NDArray[np.bool_], should_stop: StopCheck) -> NDArray[np.float32]:
        device, length = self.subject.device, len(self.clean.ids)
        at_once = max(1, ROWS_AT_ONCE // (length * self.graph.copies))
        found = [
            self.read(
                self.wiring.run(
                    Mixed(torch.from_numpy(part).to(device), self.corrupt_sent),
                    self.clean.hidden.expand(len(part), -1, -1),
                    should_stop=should_stop,
                )
            )
            for part in np.array_split(circuits, -(-len(circuits) // at_once))
        ]
        return torch.cat(found).cpu().numpy()


def _require_parts_that_add_up(subject: Subject) -> None:
    """Refuse models whose heads cannot be given streams of their own, or are normalised together before they add."""
    if subject.anatomy.flow is not Flow.PACKED:
        raise InvalidTrace(
            f"the heads of a {subject.anatomy.family} model cannot each be given a stream of its own",
            remedy="use a decoder that attends through transformers' AttentionInterface, or patch sites",
        )
    if subject.packing is not None:
        raise InvalidTrace(
            f"weights in {subject.packing} cannot be taken apart head by head",
            remedy="use the model's weights in a floating-point format, or patch sites",
        )
    if len({(block.heads, block.kv_heads) for block in subject.anatomy.blocks}) > 1:
        raise InvalidTrace(
            f"the layers of this {subject.anatomy.family} model have different numbers of heads",
            remedy="patch sites or paths instead of edges",
        )
    if subject.anatomy.gated or any(block.attn_add is not block.out_proj for block in subject.anatomy.blocks):
        raise InvalidTrace(
            f"a {subject.anatomy.family} model gates its heads or norms them together, so no edge carries one alone",
            remedy="patch z, attn_out or paths instead of edges",
        )
