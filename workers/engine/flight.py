"""Many patched runs at once, each resumed at its own layer and position, packed without padding.

A run that differs from a recorded one only from some layer and position on needs no more than that: the residual stream
of the record enters at that layer, the keys and values of the record serve the earlier positions. The rows of all runs
in flight form one matrix per layer that goes through the model's own modules; only attention must know which rows
belong together.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workers.engine.anatomy import Block
from workers.engine.attention import Heads, Prefix, attend_group, joined, packed_attention
from workers.engine.entry import LayerCall, join_positions, layer_arguments, take_positions
from workers.engine.families import Flow
from workers.engine.hooks import narrowed, on_input, on_output, summed
from workers.engine.neurons import neurons_reader
from workers.engine.progress import StopCheck, never_stop, stop_if_asked
from workers.engine.runs import Ahead, Edit, Group, Keeper, Run, Stage, Tap
from workers.engine.subject import Subject


class _Span(NamedTuple):
    """Where a group's active runs stand among the packed rows."""

    group: Group
    first: int
    active: int

    @property
    def rows(self) -> slice:
        return slice(self.first, self.first + self.active * self.group.length)

    @property
    def places(self) -> Int[Tensor, " row"]:
        """Positions of the rows in their prompt."""
        entry = self.group.entry
        return torch.arange(self.group.start, len(entry.ids), device=entry.hidden.device).repeat(self.active)


class _Scout(NamedTuple):
    """Where the rows that go ahead of a run stand among the packed rows."""

    group: Group
    run: tuple[int, int]
    """Number of the group, and of the run in it."""
    first: int
    ahead: Ahead

    @property
    def rows(self) -> slice:
        return slice(self.first, self.first + len(self.ahead.at))

    @property
    def places(self) -> Int[Tensor, " row"]:
        """Positions of the rows in their prompt."""
        return self.ahead.at + self.group.start


class Flight:
    """The runs of some groups, from the lowest layer at which any joins to the decision.

    Runs of a family that attends by its own means fly in one group from position 0 on, all joining at one layer: they
    go through the model's layers as an ordinary batch of equal lengths.

    Where layers live on several devices, accelerate moves what each is given to its own; what was recorded at a layer
    is there already, and row numbers and masks follow.
    """

    def __init__(self, subject: Subject, groups: Sequence[Group], *, tap: Tap | None = None) -> None:
        self._subject = subject
        self._groups = groups
        self._tap = tap
        self._layer = 0
        self._stream = torch.empty(0)
        self._spans: list[_Span] = []
        self._scouts: list[_Scout] = []
        self._prefixes: list[Prefix | None] = []
        self._edits: dict[tuple[int, Stage], list[tuple[int, int, Edit]]] = {}
        self._told: list[dict[str, Any]] = []
        self._by_position: dict[tuple[int, ...], dict[str, Any]] = {}
        """What layers are told row by row, while the same rows pass them; by the identities of the prompts' calls."""
        if not subject.anatomy.flow.packs:
            (group,) = groups
            self._told = layer_arguments(subject, group.entry.ids, batch=len(group.runs))
        for g, group in enumerate(groups):
            for r, run in enumerate(group.runs):
                for edit in run.edits:
                    self._edits.setdefault((edit.layer, edit.stage), []).append((g, r, edit))

    @torch.inference_mode()
    def run(self, *, until: int | None = None, should_stop: StopCheck = never_stop) -> Float[Tensor, "run tail width"]:
        """Residual stream after the last layer at the last positions of each run, groups and runs in order.

        It is that at the start of layer ``until``, where one is given.
        """
        blocks = self._subject.anatomy.blocks[:until]
        runs = [run for group in self._groups for run in group.runs]
        width = self._subject.anatomy.width
        hidden = runs[0].rows.new_empty(0, width)
        packs = self._subject.anatomy.flow.packs
        with packed_attention(self._subject.model, self._attend) if packs else nullcontext():
            for layer in range(min(run.first_layer for run in runs), len(blocks)):
                stop_if_asked(should_stop)
                hidden = self._advance(layer, blocks[layer], hidden)
        packed = self._enter(len(blocks), hidden)
        return packed[self._tails()].view(len(runs), -1, width)

    def _enter(self, layer: int, hidden: Tensor) -> Tensor:
        """The packed rows at a layer's start, with those that join there and its edits of the residual stream.

        ``hidden`` are the rows that come out of the layer below.
        """
        packed = self._board(layer, hidden)
        self._layer, self._spans = layer, self._spans_of(layer)
        # Taken before the layer is instrumented: a recording may have to compute them again with the same layer.
        ahead = layer < self._subject.anatomy.layers
        self._prefixes = [g.prefixes[layer] if g.start and ahead else None for g in self._groups]
        self._scouts = list(self._scouts_of(layer))
        if self._scouts:
            packed = torch.cat([packed, *(scout.ahead.rows.to(packed.device) for scout in self._scouts)])
        if packed is not hidden:
            self._by_position.clear()
        self._apply(Stage.RESID, packed)
        if self._tap is not None:
            self._tap.resid.append(packed)
        self._stream = packed
        return packed

    def _advance(self, layer: int, block: Block, hidden: Tensor) -> Tensor:
        """Take the packed rows through one layer."""
        packed = self._enter(layer, hidden)
        with self._instruments(block):
            if self._subject.anatomy.flow.packs:
                out = block.layer(packed[None], **self._arguments(layer))
            else:
                out = block.layer(packed.view(-1, self._groups[0].length, packed.shape[1]), **self._told[layer])
        rows: Tensor = (out[0] if self._subject.anatomy.gives_pair else out).flatten(0, 1)
        return rows

    def _board(self, layer: int, hidden: Tensor) -> Tensor:
        """The rows of each group as they come out of the layer below, with those of its runs that join at this one."""
        joining = [[(r, run) for r, run in enumerate(group.runs) if run.joins == layer] for group in self._groups]
        if not any(joining):
            return hidden
        arrived = {scout.run: hidden[scout.rows] for scout in self._scouts}
        flying = [hidden[span.rows] for span in self._spans] or [hidden] * len(self._groups)
        parts: list[Tensor] = []
        for g, runs in enumerate(joining):
            parts += [flying[g], *(_whole(run, arrived.get((g, r))) for r, run in runs)]
        return torch.cat(parts)

    def _spans_of(self, layer: int) -> list[_Span]:
        spans, first = [], 0
        for group in self._groups:
            active = sum(run.joins <= layer for run in group.runs)
            spans.append(_Span(group, first, active))
            first += active * group.length
        return spans

    def _scouts_of(self, layer: int) -> Iterator[_Scout]:
        """What goes through this layer ahead of runs that join at the next, behind all other rows."""
        first = self._spans[-1].rows.stop
        for g, group in enumerate(self._groups):
            for r, run in enumerate(group.runs):
                if run.ahead is not None and run.first_layer == layer:
                    yield _Scout(group, (g, r), first, run.ahead)
                    first += len(run.ahead.at)

    def _arguments(self, layer: int) -> dict[str, Any]:
        """What the layer is told beside the rows: positions and their embeddings, row by row."""
        parts: list[_Span | _Scout] = [*(span for span in self._spans if span.active), *self._scouts]
        calls = [part.group.entry.calls[layer] for part in parts]
        key = tuple(map(id, calls))
        if key not in self._by_position:
            self._by_position[key] = _row_by_row([(call, part.places) for call, part in zip(calls, parts, strict=True)])
        return {**calls[0].constant, **self._by_position[key], "attention_mask": None}

    def _tails(self) -> Int[Tensor, " tail"]:
        """The packed rows of each active run's last tokens, and those that go ahead."""
        tails = [
            torch.arange(span.active)[:, None] * span.group.length
            + torch.arange(span.group.length - span.group.tails, span.group.length)
            + span.first
            for span in self._spans
        ]
        rows = [each.flatten() for each in tails]
        rows += [torch.arange(scout.rows.start, scout.rows.stop) for scout in self._scouts]
        return torch.cat(rows).to(self._stream.device)

    @property
    def _only_tails(self) -> bool:
        """Whether nothing but the last tokens' rows is needed behind this layer's keys and values."""
        last = self._layer == self._subject.anatomy.layers - 1
        return self._tap is None and last and self._subject.anatomy.flow is Flow.PACKED

    def _attend(self, heads: Heads) -> Float[Tensor, "row head value_width"]:
        if self._tap is not None:
            self._tap.heads.append(heads)
        heads = self._edited(heads)
        told = zip(self._spans, self._prefixes, strict=True)
        parts = [self._attend_span(heads, span, prefix) for span, prefix in told if span.active]
        parts += [self._by_head(scout.ahead.z.to(heads.value)) for scout in self._scouts]
        out = joined(parts)
        if self._only_tails:
            wide = out.new_zeros(heads.query.shape[1], *out.shape[1:])
            out = wide.index_copy_(0, self._tails().to(out.device), out)
        self._apply_patterns(heads.value, out)
        return out

    def _edited(self, heads: Heads) -> Heads:
        """Give this layer's queries, keys and values with their edits; the originals stay as they are for the tap."""
        for stage, name in ((Stage.Q, "query"), (Stage.K, "key"), (Stage.V, "value")):
            if self._acts(stage):
                rows = getattr(heads, name).clone()
                self._apply(stage, rows.transpose(0, 1))
                heads = heads._replace(**{name: rows})
        return heads

    def _apply_patterns(
        self, value: Float[Tensor, "kv_head row value_width"], out: Float[Tensor, "row head value_width"]
    ) -> None:
        """Let heads whose pattern is replaced read this run's values with the pattern given."""
        for g, r, edit in self._edits.get((self._layer, Stage.PATTERN), ()):
            span = self._spans[g]
            assert edit.head is not None  # noqa: S101 - a pattern belongs to a head
            shared = edit.head // (out.shape[1] // value.shape[0])
            first = span.first + r * span.group.length
            own = value[shared, first : first + span.group.length]
            prefix = self._prefixes[g]
            whole = own if prefix is None else torch.cat((prefix.value[shared], own))
            out[edit.rows.to(out.device) + first, edit.head] = edit.values @ whole[: edit.values.shape[1]]

    def _attend_span(self, heads: Heads, span: _Span, prefix: Prefix | None) -> Float[Tensor, "row head value_width"]:
        group, rows = span.group, span.rows
        mine = heads._replace(query=heads.query[:, rows], key=heads.key[:, rows], value=heads.value[:, rows])
        prefix = prefix or Prefix(heads.key[:, :0], heads.value[:, :0])
        mask = group.entry.calls[self._layer].mask[-group.tails if self._only_tails else group.start :]
        return attend_group(mine, prefix, mask.to(heads.key.device), members=span.active)

    @contextmanager
    def _instruments(self, block: Block) -> Iterator[None]:
        """Hooks of this layer: keep what is asked for, put the edits in, leave out rows that nobody needs."""
        with ExitStack() as stack:
            if self._tap is not None:
                stack.enter_context(on_input(block.out_proj, _keep(self._tap.z)))
            if self._acts(Stage.Z):
                stack.enter_context(on_input(block.out_proj, lambda rows: self._apply(Stage.Z, self._by_head(rows))))
            if self._only_tails:
                tails = self._tails()
                stack.enter_context(narrowed(block.out_proj, block.out_proj, tails))
                stack.enter_context(narrowed(block.mlp_in, block.mlp_out, tails))
            stack.enter_context(summed(block.mlp_beside, block.mlp_add))
            if self._tap is not None:
                stack.enter_context(on_output(block.attn_add, _keep(self._tap.attn_out)))
                stack.enter_context(on_output(block.mlp_add, _keep(self._tap.mlp_out)))
            if self._acts(Stage.ATTN_OUT):
                stack.enter_context(on_output(block.attn_add, partial(self._apply, Stage.ATTN_OUT)))
            if self._acts(Stage.MID):
                stack.enter_context(on_output(block.attn_add, self._apply_between))
            stack.enter_context(self._at_neurons(block))
            if self._acts(Stage.MLP_OUT):
                stack.enter_context(on_output(block.mlp_add, partial(self._apply, Stage.MLP_OUT)))
            yield

    @contextmanager
    def _at_neurons(self, block: Block) -> Iterator[None]:
        """Keep and edit the MLP's hidden activations, where anybody asks for them."""
        kept = None if self._tap is None else self._tap.neurons
        reader = neurons_reader(block) if kept is not None or self._acts(Stage.NEURONS) else None
        if reader is None:
            if kept is not None:
                kept.append(self._stream.new_empty(len(self._stream), 0))
            yield
            return
        with ExitStack() as stack:
            if kept is not None:
                stack.enter_context(on_input(reader, _keep(kept)))
            tails = self._tails() if self._only_tails else None
            stack.enter_context(on_input(reader, lambda rows: self._apply(Stage.NEURONS, rows, present=tails)))
            yield

    def _by_head(self, rows: Float[Tensor, "row heads_width"]) -> Float[Tensor, "row head width"]:
        return rows.view(len(rows), self._subject.anatomy.blocks[self._layer].heads, -1)

    def _apply_between(self, added: Float[Tensor, "row width"]) -> None:
        """Edit the stream between attention and MLP through what attention adds to it."""
        stream = self._stream.to(added.device)
        multiplier = self._subject.anatomy.blocks[self._layer].multiplier
        middle = stream + multiplier * added
        self._apply(Stage.MID, middle)
        added.copy_((middle - stream) / multiplier)

    def _acts(self, stage: Stage) -> bool:
        """Whether any run is edited there in this layer."""
        return (self._layer, stage) in self._edits

    def _apply(self, stage: Stage, packed: Tensor, *, present: Int[Tensor, " present"] | None = None) -> None:
        """Put this layer's edits of one stage into the packed [row, width] or [row, head, width] activations.

        ``present`` numbers the packed rows that the activations still hold, where they are not all.
        """
        for g, r, edit in self._edits.get((self._layer, stage), ()):
            rows = self._packed_rows(g, r, edit.rows).to(packed.device)
            if present is not None:
                rows = torch.searchsorted(present.to(rows.device), rows)
            place = rows if edit.head is None else (rows, edit.head)
            packed[place] = edit.put_into(packed[place])

    def _packed_rows(self, g: int, r: int, rows: Int[Tensor, " row"]) -> Int[Tensor, " row"]:
        """Where rows of a run stand in this layer."""
        for scout in self._scouts:
            if scout.run == (g, r):
                return torch.searchsorted(scout.ahead.at, rows) + scout.first
        span = self._spans[g]
        return rows + (span.first + r * span.group.length)


def _whole(run: Run, arrived: Float[Tensor, "row width"] | None) -> Float[Tensor, "row width"]:
    """All rows of a run that joins, with those that went ahead in their places."""
    if run.ahead is None or arrived is None:
        return run.rows
    return run.rows.index_copy(0, run.ahead.at.to(run.rows.device), arrived.to(run.rows.device))


def _row_by_row(told: Sequence[tuple[LayerCall, Int[Tensor, " row"]]]) -> dict[str, Any]:
    """What a layer is told of the rows at these positions of prompts, prompt after prompt."""
    shared = [list(parts) for _, parts in groupby(told, key=lambda each: id(each[0]))]
    taken = [(parts[0][0], joined([at for _, at in parts])) for parts in shared]
    names = taken[0][0].by_position
    return {name: join_positions([take_positions(c.by_position[name], at) for c, at in taken]) for name in names}


def _keep(kept: Keeper[Tensor]) -> Callable[[Tensor], None]:
    return lambda rows: kept.append(rows.clone())
