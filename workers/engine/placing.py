"""From an exchange to the run that computes it: where it joins, and what is edited in it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidTrace
from workers.engine.anatomy import Anatomy
from workers.engine.donors import Recording
from workers.engine.flight import Edit, Run, Stage
from workers.engine.positions import Exchange

STAGES = {
    SiteKind.RESID_PRE: Stage.RESID,
    SiteKind.RESID_MID: Stage.RESID,
    SiteKind.RESID_POST: Stage.RESID,
    SiteKind.Z: Stage.Z,
    SiteKind.ATTN_OUT: Stage.ATTN_OUT,
    SiteKind.MLP_OUT: Stage.MLP_OUT,
}


class Placed(NamedTuple):
    """A run with the number of the cell that it computes."""

    cell: int
    start: int
    """Position of its first row."""
    run: Run


def place(
    anatomy: Anatomy, cell: int, exchange: Exchange, recipient: Recording, donor: Recording, *, same: int
) -> Placed | None:
    """The run that computes an exchange; None if the exchange cannot change the decision.

    It cannot at the first ``same`` positions, nor behind the last attention at another position than the last. Raises
    InvalidTrace for a site that the model does not have.
    """
    check(anatomy, exchange)
    layer, stage = _canonical(exchange)
    moved = _moved(anatomy, exchange, layer, stage, last=recipient.length - 1, same=same)
    if not moved:
        return None
    start = moved[0][0]
    rows = recipient.resid[layer][start:]
    to = torch.tensor([to - start for to, _ in moved], device=rows.device)
    values = _kept(donor, stage)[layer][torch.tensor([by for _, by in moved], device=rows.device)]
    if exchange.head is not None:
        values = values.view(len(moved), anatomy.heads, -1)[:, exchange.head]
    edit = Edit(stage, layer, exchange.head, to, values)
    if layer < anatomy.layers:
        return Placed(cell, start, Run(layer, rows, (edit,)))
    changed = rows.clone()
    changed[to] = edit.values
    return Placed(cell, start, Run(layer, changed, ()))


def check(anatomy: Anatomy, exchange: Exchange) -> None:
    """Raise InvalidTrace if the model does not have this site."""
    name = f"{exchange.kind} at layer {exchange.layer}"
    if exchange.kind not in STAGES:
        raise InvalidTrace(f"site kind {exchange.kind} is not supported", remedy=f"use {', '.join(STAGES)}")
    if exchange.kind is SiteKind.RESID_MID and anatomy.parallel:
        raise InvalidTrace(
            f"{name}: attention and MLP of this model work side by side, so there is no resid_mid",
            remedy="use resid_pre, resid_post, attn_out or mlp_out",
        )
    if not 0 <= exchange.layer < anatomy.layers:
        raise InvalidTrace(f"{name}: the model has {anatomy.layers} layers", remedy="use layers that exist")
    if (exchange.kind is SiteKind.Z) != (exchange.head is not None):
        raise InvalidTrace(f"{name}: head {exchange.head} does not fit the kind", remedy="name a head for z alone")
    if exchange.head is not None and not 0 <= exchange.head < anatomy.heads:
        raise InvalidTrace(
            f"{name}: the model has {anatomy.heads} heads, not a head {exchange.head}", remedy="use heads that exist"
        )


def _canonical(exchange: Exchange) -> tuple[int, Stage]:
    """Layer and stage of an exchange.

    From resid_mid on, a position's row depends on nothing but itself, so exchanging resid_mid or resid_post is
    exchanging the next layer's resid_pre.
    """
    later = exchange.kind in {SiteKind.RESID_MID, SiteKind.RESID_POST}
    return exchange.layer + later, STAGES[exchange.kind]


def _moved(
    anatomy: Anatomy, exchange: Exchange, layer: int, stage: Stage, *, last: int, same: int
) -> list[tuple[int, int]]:
    """The (recipient, donor) positions whose exchange can change the decision, in the recipient's order."""
    behind = layer == anatomy.layers or (layer == anatomy.layers - 1 and stage is not Stage.RESID)
    pairs = sorted(zip(exchange.recipient, exchange.donor, strict=True))
    return [(to, by) for to, by in pairs if (to != by or to >= same) and (to == last or not behind)]


def _kept(donor: Recording, stage: Stage) -> Sequence[Float[Tensor, "position width"]]:
    """What the donor keeps of a stage, by layer."""
    return {Stage.RESID: donor.resid, Stage.Z: donor.z, Stage.ATTN_OUT: donor.attn_out, Stage.MLP_OUT: donor.mlp_out}[
        stage
    ]
