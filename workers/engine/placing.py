"""From exchanges to the run that computes them: where it joins, and what is edited in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from audit_service.domain.sites import HEAD_KINDS, SiteKind
from audit_service.errors import InvalidTrace
from workers.engine.anatomy import Anatomy
from workers.engine.donors import Recording
from workers.engine.flight import Edit, Run, Stage
from workers.engine.heads import INSIDE, changed_z, require_counterpart
from workers.engine.positions import Exchange

STAGES = {
    SiteKind.RESID_PRE: Stage.RESID,
    SiteKind.RESID_MID: Stage.RESID,
    SiteKind.RESID_POST: Stage.RESID,
    SiteKind.Z: Stage.Z,
    SiteKind.Q: Stage.Z,
    SiteKind.K: Stage.Z,
    SiteKind.V: Stage.Z,
    SiteKind.PATTERN: Stage.Z,
    SiteKind.ATTN_OUT: Stage.ATTN_OUT,
    SiteKind.MLP_OUT: Stage.MLP_OUT,
}
Moves = list[tuple[int, int]]
"""(recipient, donor) positions, ascending."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the run of a cell begins; the run itself is made when its flight starts, since it holds activations."""

    cell: int
    start: int
    """Position of its first row."""
    joins: int
    anatomy: Anatomy
    acting: tuple[tuple[Exchange, Moves], ...]
    """The exchanges with those of their positions that can change the decision."""

    def run(self, recipient: Recording, donor: Recording) -> Run:
        """The run, with the donor's activations as its edits."""
        edits = (
            edit
            for exchange, moved in self.acting
            for edit in edits_of(self.anatomy, exchange, moved, recipient, donor, start=self.start)
        )
        return Run(self.joins, recipient.resid[self.joins][self.start :], tuple(edits))


def place(
    anatomy: Anatomy, cell: int, exchanges: Sequence[Exchange], recipient: Recording, donor: Recording, *, same: int
) -> Placed | None:
    """Where the run that makes all the exchanges at once begins; None if they cannot change the decision.

    They cannot at the first ``same`` positions, nor behind the last attention at another position than the last.
    Raises InvalidTrace for a site that the model does not have.
    """
    for exchange in exchanges:
        check(anatomy, exchange, together=len(exchanges) > 1)
        _check_positions(exchange, recipient, donor)
        require_counterpart(exchange, recipient, donor)
    # What an exchange across positions puts in changes that position and, by attention, those behind it alone.
    crossed = (to for each in exchanges for to, by in zip(each.recipient, each.donor, strict=True) if to != by)
    same = min((same, *crossed))
    moves = [_moved(anatomy, exchange, last=recipient.length - 1, same=same) for exchange in exchanges]
    acting = tuple((exchange, moved) for exchange, moved in zip(exchanges, moves, strict=True) if moved)
    if not acting:
        return None
    start = min(moved[0][0] for _, moved in acting)
    return Placed(cell, start, min(layer_of(exchange) for exchange, _ in acting), anatomy, acting)


def check(anatomy: Anatomy, exchange: Exchange, *, together: bool = False) -> None:
    """Raise InvalidTrace if the model does not have this site, or it cannot be exchanged together with others."""
    name = f"{exchange.kind} at layer {exchange.layer}"
    if exchange.kind is SiteKind.RESID_MID and anatomy.parallel:
        raise InvalidTrace(
            f"{name}: attention and MLP of this model work side by side, so there is no resid_mid",
            remedy="use resid_pre, resid_post, attn_out or mlp_out",
        )
    if not 0 <= exchange.layer < anatomy.layers:
        raise InvalidTrace(f"{name}: the model has {anatomy.layers} layers", remedy="use layers that exist")
    if (exchange.kind in HEAD_KINDS) != (exchange.head is not None):
        raise InvalidTrace(
            f"{name}: head {exchange.head} does not fit the kind",
            remedy=f"name a head for {', '.join(HEAD_KINDS)} alone",
        )
    count = heads_of(anatomy, exchange.kind)
    if exchange.head is not None and not 0 <= exchange.head < count:
        raise InvalidTrace(
            f"{name}: the model has {count} such heads, not a head {exchange.head}", remedy="use heads that exist"
        )
    if together and exchange.kind in INSIDE:
        raise InvalidTrace(f"{name} cannot be exchanged together with other sites", remedy="exchange z instead")


def _check_positions(exchange: Exchange, recipient: Recording, donor: Recording) -> None:
    to, by = exchange.recipient, exchange.donor
    inside = all(0 <= at < recipient.length for at in to) and all(0 <= at < donor.length for at in by)
    if not to or len(set(to)) != len(to) or len(to) != len(by) or not inside:
        raise InvalidTrace(
            f"{exchange.kind} at layer {exchange.layer} is exchanged at positions {to} of {recipient.length} tokens "
            f"for {by} of {donor.length}",
            remedy="name each position once, inside the prompts, and as many on one side as on the other",
        )


def heads_of(anatomy: Anatomy, kind: SiteKind) -> int:
    """How many heads a kind has: grouped queries share keys and values."""
    return anatomy.kv_heads if kind in {SiteKind.K, SiteKind.V} else anatomy.heads


def layer_of(exchange: Exchange) -> int:
    """The layer whose start or inside an exchange changes.

    From resid_mid on, a position's row depends on nothing but itself, so exchanging resid_mid or resid_post is
    exchanging the next layer's resid_pre.
    """
    return exchange.layer + (exchange.kind in {SiteKind.RESID_MID, SiteKind.RESID_POST})


def _moved(anatomy: Anatomy, exchange: Exchange, *, last: int, same: int) -> Moves:
    """The positions whose exchange can change the decision."""
    layer = layer_of(exchange)
    seen_by_attention = exchange.kind in {SiteKind.RESID_PRE, SiteKind.RESID_POST, SiteKind.RESID_MID}
    seen_by_attention = seen_by_attention or exchange.kind in {SiteKind.K, SiteKind.V}
    behind = layer == anatomy.layers or (layer == anatomy.layers - 1 and not seen_by_attention)
    pairs = sorted(zip(exchange.recipient, exchange.donor, strict=True))
    return [(to, by) for to, by in pairs if (to != by or to >= same) and (to == last or not behind)]


def edits_of(
    anatomy: Anatomy, exchange: Exchange, moved: Moves, recipient: Recording, donor: Recording, *, start: int
) -> Iterator[Edit]:
    """What is replaced in a run that begins at a position, so that the recipient gets the donor's activation."""
    stage, layer = STAGES[exchange.kind], layer_of(exchange)
    device = recipient.entry.hidden.device
    to, by = (torch.tensor(side, device=device) for side in zip(*moved, strict=True))
    if exchange.kind in INSIDE:
        for head, rows, values in changed_z(exchange, to, by, recipient, donor):
            yield Edit(stage, layer, head, rows - start, values)
        return
    values = kept_of(donor, stage)[layer][by]
    if exchange.head is not None:
        values = values.view(len(moved), anatomy.heads, -1)[:, exchange.head]
    yield Edit(stage, layer, exchange.head, to - start, values)


def kept_of(donor: Recording, stage: Stage) -> Sequence[Float[Tensor, "position width"]]:
    """What the donor keeps of a stage, by layer."""
    kept = {Stage.RESID: donor.resid, Stage.Z: donor.z, Stage.ATTN_OUT: donor.attn_out, Stage.MLP_OUT: donor.mlp_out}
    return kept[stage]
