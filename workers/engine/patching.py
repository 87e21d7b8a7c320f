"""Activation patching: put the donor's activation into the recipient's run and read the decision (METHOD.md section 4)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from audit_service.domain.plan import Direction, Mapping
from audit_service.domain.sites import Site, SiteKind
from audit_service.errors import InvalidTrace
from workers.engine.donors import Recording, record
from workers.engine.flight import Edit, Flight, Group, Run, Stage
from workers.engine.loading import Subject
from workers.engine.positions import Exchange, exchange_of
from workers.engine.progress import Progress, StopCheck, never_stop, no_progress
from workers.engine.readout import decision_values
from workers.engine.tokens import EncodedPair, LabelTokens, first_difference

ROWS_IN_FLIGHT = 2048
"""Packed rows per flight: enough for large matrix products, few enough for the activations to stay in the caches."""
HEAD_SITES = frozenset({SiteKind.Z})
_STAGES = {
    SiteKind.RESID_PRE: Stage.RESID,
    SiteKind.RESID_MID: Stage.RESID,
    SiteKind.RESID_POST: Stage.RESID,
    SiteKind.Z: Stage.Z,
    SiteKind.ATTN_OUT: Stage.ATTN_OUT,
    SiteKind.MLP_OUT: Stage.MLP_OUT,
}


@dataclass(frozen=True, slots=True)
class PairEffects:
    """Patched decision values of one pair in one direction, in nats."""

    patched: NDArray[np.float32]
    """[site] in the order asked for."""
    d_clean: float
    d_corrupt: float


class _Placed(NamedTuple):
    """A run with the number of the cell that it computes."""

    cell: int
    start: int
    run: Run


def trace_pair(
    subject: Subject,
    encoded: EncodedPair,
    sites: Sequence[Site],
    *,
    direction: Direction,
    labels: LabelTokens,
    mapping: Mapping = Mapping.RIGHT_ALIGNED,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> PairEffects:
    """Patch every site of a pair, one at a time, and read the decision value of each patched run.

    Denoising puts clean activations into the corrupt run, noising the reverse. Raises InvalidTrace for a site that this
    model does not have, Cancelled when asked to stop.
    """
    clean = record(subject, encoded.clean.ids, should_stop=should_stop)
    corrupt = record(subject, encoded.corrupt.ids, should_stop=should_stop)
    denoise = direction is Direction.DENOISE
    to, by = (encoded.corrupt, encoded.clean) if denoise else (encoded.clean, encoded.corrupt)
    exchanges = [exchange_of(site, to, by, mapping) for site in sites]
    recipient, donor = (corrupt, clean) if denoise else (clean, corrupt)
    patched = patch(subject, recipient, donor, exchanges, labels=labels, progress=progress, should_stop=should_stop)
    d_clean, d_corrupt = decision_values(subject, torch.stack([clean.decision, corrupt.decision]), labels).tolist()
    return PairEffects(patched, d_clean, d_corrupt)


def patch(
    subject: Subject,
    recipient: Recording,
    donor: Recording,
    exchanges: Sequence[Exchange],
    *,
    labels: LabelTokens,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> NDArray[np.float32]:
    """Decision value [exchange] of the recipient's run with each exchange made alone, in float32 nats."""
    unpatched = decision_values(subject, recipient.decision[None], labels)
    patched = unpatched.repeat(len(exchanges))
    placed = [_place(subject, cell, exchange, recipient, donor) for cell, exchange in enumerate(exchanges)]
    todo = sorted((p for p in placed if p is not None), key=lambda p: (p.start, p.run.joins))
    done = len(exchanges) - len(todo)
    for flown in _flights(todo, recipient.length):
        hidden = Flight(subject, _groups(flown, recipient)).run(should_stop=should_stop)
        cells = torch.tensor([p.cell for p in flown], device=subject.device)
        patched[cells] = decision_values(subject, hidden, labels)
        done += len(flown)
        progress(done, len(exchanges), float((patched - unpatched).abs().max()))
    return patched.cpu().numpy()


def _flights(placed: Sequence[_Placed], length: int) -> Iterator[list[_Placed]]:
    """Cut the runs into flights of a bounded number of rows."""
    flight: list[_Placed] = []
    rows = 0
    for p in placed:
        if flight and rows + length - p.start > ROWS_IN_FLIGHT:
            yield flight
            flight, rows = [], 0
        flight.append(p)
        rows += length - p.start
    if flight:
        yield flight


def _groups(placed: Sequence[_Placed], recipient: Recording) -> list[Group]:
    return [
        Group(recipient.entry, start, recipient.prefixes(start), tuple(p.run for p in runs))
        for start, runs in groupby(placed, key=lambda p: p.start)
    ]


def _place(subject: Subject, cell: int, exchange: Exchange, recipient: Recording, donor: Recording) -> _Placed | None:
    """The run that computes an exchange; None if the exchange cannot change the decision.

    It cannot where both prompts have computed the same from the same tokens, nor behind the last attention at another
    position than the last.
    """
    _check(subject, exchange)
    layer, stage = _canonical(exchange)
    layers = subject.anatomy.layers
    same = first_difference(recipient.entry.ids, donor.entry.ids)
    last = recipient.length - 1
    behind = layer == layers or (layer == layers - 1 and stage is not Stage.RESID)
    moved = [
        (to, by)
        for to, by in zip(exchange.recipient, exchange.donor, strict=True)
        if (to != by or to >= same) and (to == last or not behind)
    ]
    if not moved:
        return None
    start = min(to for to, _ in moved)
    rows = recipient.resid[layer][start:]
    edit = _edit(subject, stage, layer, exchange.head, moved, start, donor)
    if layer == layers:
        rows = rows.clone()
        rows[edit.rows] = edit.values
        return _Placed(cell, start, Run(layer, rows, ()))
    return _Placed(cell, start, Run(layer, rows, (edit,)))


def _edit(
    subject: Subject,
    stage: Stage,
    layer: int,
    head: int | None,
    moved: Sequence[tuple[int, int]],
    start: int,
    donor: Recording,
) -> Edit:
    kept = {Stage.RESID: donor.resid, Stage.Z: donor.z, Stage.ATTN_OUT: donor.attn_out, Stage.MLP_OUT: donor.mlp_out}[
        stage
    ][layer]
    to = torch.tensor([to - start for to, _ in moved], device=subject.device)
    by = torch.tensor([by for _, by in moved], device=subject.device)
    values: Float[Tensor, "edited width"] = kept[by]
    if head is not None:
        values = values.view(len(moved), subject.anatomy.heads, -1)[:, head]
    return Edit(stage, layer, head, to, values)


def _canonical(exchange: Exchange) -> tuple[int, Stage]:
    """Layer and stage of an exchange. From resid_mid on, a position's row depends on nothing but itself, so exchanging
    resid_mid or resid_post is exchanging the next layer's resid_pre."""
    later = exchange.kind in {SiteKind.RESID_MID, SiteKind.RESID_POST}
    return exchange.layer + later, _STAGES[exchange.kind]


def _check(subject: Subject, exchange: Exchange) -> None:
    anatomy = subject.anatomy
    name = f"{exchange.kind} at layer {exchange.layer}"
    if exchange.kind not in _STAGES:
        raise InvalidTrace(f"site kind {exchange.kind} is not supported", remedy=f"use {', '.join(_STAGES)}")
    if exchange.kind is SiteKind.RESID_MID and anatomy.parallel:
        raise InvalidTrace(
            f"{name}: attention and MLP of this model work side by side, so there is no resid_mid",
            remedy="use resid_pre, resid_post, attn_out or mlp_out",
        )
    if not 0 <= exchange.layer < anatomy.layers:
        raise InvalidTrace(f"{name}: the model has {anatomy.layers} layers", remedy="use layers that exist")
    if (exchange.kind in HEAD_SITES) != (exchange.head is not None):
        raise InvalidTrace(f"{name}: head {exchange.head} does not fit the kind", remedy="name a head for z alone")
    if exchange.head is not None and not 0 <= exchange.head < anatomy.heads:
        raise InvalidTrace(
            f"{name}: the model has {anatomy.heads} heads, not a head {exchange.head}", remedy="use heads that exist"
        )
