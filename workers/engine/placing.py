"""From exchanges to the run that computes them: where it joins, and what is edited in it."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from audit_service.domain.sites import HEAD_KINDS, KV_KINDS, SiteKind
from audit_service.errors import InvalidTrace
from workers.engine.anatomy import Anatomy
from workers.engine.changes import Change, donors_own
from workers.engine.donors import Recording, equal_rows
from workers.engine.families import Flow
from workers.engine.heads import INSIDE, pattern_rows, require_counterpart
from workers.engine.neurons import require_neurons
from workers.engine.positions import Exchange
from workers.engine.runs import Ahead, Edit, Run, Stage

STAGES = {
    SiteKind.RESID_PRE: Stage.RESID,
    SiteKind.RESID_MID: Stage.RESID,
    SiteKind.RESID_POST: Stage.RESID,
    SiteKind.Z: Stage.Z,
    SiteKind.Q: Stage.Q,
    SiteKind.K: Stage.K,
    SiteKind.V: Stage.V,
    SiteKind.PATTERN: Stage.PATTERN,
    SiteKind.ATTN_OUT: Stage.ATTN_OUT,
    SiteKind.NEURONS: Stage.NEURONS,
    SiteKind.MLP_OUT: Stage.MLP_OUT,
}
OF_THE_TOKEN = frozenset({Stage.RESID, Stage.Q, Stage.K, Stage.V})
"""Stages that in the first layer depend on nothing but the token and its position."""
BEHIND_ATTENTION = frozenset({Stage.Z, Stage.ATTN_OUT, Stage.MID, Stage.NEURONS, Stage.MLP_OUT})
"""Stages at which a row's change stays in that row until the next layer."""
Moves = tuple[tuple[int, int], ...]
"""(recipient, donor) positions, ascending."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a run begins; the run itself is made when its flight starts, since it holds activations."""

    cells: tuple[int, ...]
    """The cells that this run computes."""
    start: int
    """Position of its first row."""
    joins: int
    anatomy: Anatomy
    acting: tuple[tuple[Exchange, Moves], ...]
    """The exchanges with those of their positions that can change the decision."""
    ahead: tuple[int, ...] = ()
    """Positions whose rows alone are changed in the layer below, ascending."""

    @property
    def key(self) -> Hashable:
        """Equal for runs that are the same, under whatever names their sites were asked for."""
        acting = ((stage_of(e), layer_of(e), e.head, moved, e.part, e.value) for e, moved in self.acting)
        return self.start, self.joins, tuple(acting)

    @property
    def first_layer(self) -> int:
        """The lowest layer at which anything is computed."""
        return self.joins - bool(self.ahead)

    def run(self, recipient: Recording, donor: Recording) -> Run:
        """The run, with the donor's activations as its edits."""
        edits = (
            edit
            for exchange, moved in self.acting
            for edit in edits_of(self.anatomy, exchange, moved, recipient, donor, start=self.start)
        )
        ahead = self._gone_ahead(recipient) if self.ahead else None  # from below: layers may be computed anew in order
        return Run(self.joins, recipient.resid[self.joins][self.start :], tuple(edits), ahead)

    def _gone_ahead(self, recipient: Recording) -> Ahead:
        # The numbers of rows follow to wherever a layer lives, as those of edits do.
        at = torch.tensor(self.ahead, device=recipient.entry.hidden.device)
        stream, z = (kept[self.joins - 1] for kept in (recipient.resid, recipient.z))
        return Ahead(at - self.start, stream[at.to(stream.device)], z[at.to(z.device)])


def place_all(
    anatomy: Anatomy,
    sets: Sequence[Sequence[Exchange]],
    recipient: Recording,
    donor: Recording,
    *,
    skip_equal: bool = True,
    everywhere: bool = False,
) -> list[Placed]:
    """The runs that make the exchanges of each set at once, those that are the same once, in the order of flight.

    Sets that cannot change what is read need no run; nor, with ``skip_equal``, exchanges of rows that both prompts have
    computed from the same tokens. Raises InvalidTrace for a site that the model does not have.
    """
    same = equal_rows(recipient, donor) if skip_equal else ()
    found: dict[Hashable, Placed] = {}
    for cell, exchanges in enumerate(sets):
        placed = place(anatomy, cell, exchanges, recipient, donor, same=same, everywhere=everywhere)
        if placed is not None:
            twin = found.get(placed.key)
            found[placed.key] = placed if twin is None else replace(twin, cells=(*twin.cells, cell))
    return sorted(found.values(), key=lambda p: (p.start, p.joins))


def place(
    anatomy: Anatomy,
    cell: int,
    exchanges: Sequence[Exchange],
    recipient: Recording,
    donor: Recording,
    *,
    same: Sequence[bool],
    everywhere: bool = False,
) -> Placed | None:
    """Where the run that makes all the exchanges at once begins; None if they cannot change what is read.

    They cannot as long as every position up to theirs is the ``same``, nor in front of the first attention where
    theirs is; nor, unless the run is read ``everywhere``, behind the last attention at another position than the last.
    Where the model looks ahead they can before the first difference too. Raises InvalidTrace for a site that the
    model does not have.
    """
    if len(exchanges) > 1 or donor.blended:
        exchanges = [_in_its_place(exchange) for exchange in exchanges]
    for exchange in exchanges:
        check(anatomy, exchange)
        _check_positions(exchange, recipient, donor)
        require_counterpart(exchange, recipient, donor)
        _try_change(anatomy, exchange, donor)
    # What an exchange across positions puts in, or one that needs no donor, changes that position and, by attention,
    # those behind it alone.
    crossed = (
        to
        for each in exchanges
        for to, by in zip(each.recipient, each.donor, strict=True)
        if to != by or each.value is not None
    )
    if not anatomy.flow.causal:
        everywhere = True
    beginning = same.index(False) if False in same else len(same)
    beginning = min((beginning, *crossed)) if anatomy.flow.causal else 0
    last = None if everywhere else recipient.length - 1
    moves = [_moved(anatomy, exchange, last=last, beginning=beginning) for exchange in exchanges]
    if len(exchanges) == 1 and layer_of(exchanges[0]) == 0 and stage_of(exchanges[0]) in OF_THE_TOKEN:
        moves = [_of_other_tokens(exchanges[0], moves[0], same)]
    acting = tuple((exchange, moved) for exchange, moved in zip(exchanges, moves, strict=True) if moved)
    if not acting:
        return None
    start = min(moved[0][0] for _, moved in acting) if anatomy.flow is Flow.PACKED else 0
    lowest = min(layer_of(exchange) for exchange, _ in acting)
    ahead = _changed_behind_attention(anatomy, acting, lowest)
    return Placed((cell,), start, lowest + bool(ahead), anatomy, acting, ahead)


def _changed_behind_attention(
    anatomy: Anatomy, acting: Sequence[tuple[Exchange, Moves]], layer: int
) -> tuple[int, ...]:
    """The positions that are changed in a layer if all its exchanges stand behind its attention, or none.

    None either where something stands between attention and z: a row's recorded z would pass it a second time.
    """
    there = [(exchange, moved) for exchange, moved in acting if layer_of(exchange) == layer]
    if (
        not anatomy.flow.packs
        or anatomy.gated
        or any(stage_of(exchange) not in BEHIND_ATTENTION for exchange, _ in there)
    ):
        return ()
    return tuple(sorted({to for _, moved in there for to, _ in moved}))


def check(anatomy: Anatomy, exchange: Exchange) -> None:
    """Raise InvalidTrace if the model does not have this site."""
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
    if exchange.kind in INSIDE and not anatomy.flow.packs:
        raise InvalidTrace(
            f"{name}: {anatomy.family} models attend by their own means, which show no {exchange.kind}",
            remedy="use z, attn_out, mlp_out or the residual stream",
        )
    count = heads_of(anatomy, exchange.kind, exchange.layer)
    if exchange.head is not None and not 0 <= exchange.head < count:
        raise InvalidTrace(
            f"{name}: the layer has {count} such heads, not a head {exchange.head}",
            remedy="use heads that exist"
            if count
            else "leave z out, and use attn_out: this layer mixes positions without heads",
        )
    if exchange.kind is SiteKind.NEURONS:
        require_neurons(anatomy.blocks[exchange.layer], exchange.layer)
    if exchange.kind is SiteKind.PATTERN and not exchange.is_whole:
        raise InvalidTrace(
            f"{name}: a pattern is exchanged as a whole, since parts of it would not add up to one",
            remedy="change q, k or z instead",
        )


def _check_positions(exchange: Exchange, recipient: Recording, donor: Recording) -> None:
    to, by = exchange.recipient, exchange.donor
    inside = all(0 <= at < recipient.length for at in to) and all(0 <= at < donor.length for at in by)
    if not to or len(set(to)) != len(to) or len(to) != len(by) or not inside:
        raise InvalidTrace(
            f"{exchange.kind} at layer {exchange.layer} is exchanged at positions {to} of {recipient.length} tokens "
            f"for {by} of {donor.length}",
            remedy="name each position once, inside the prompts, and as many on one side as on the other",
        )


def _try_change(anatomy: Anatomy, exchange: Exchange, donor: Recording) -> None:
    """Raise InvalidTrace for a part or value that does not fit the site, before anything is computed."""
    if exchange.is_whole:
        return
    row = _values(anatomy, exchange, list(exchange.donor[:1]), donor)
    if exchange.part is not None:
        exchange.part.require_width(row.shape[1])
    Change(exchange.part, exchange.value)(row, row)


def heads_of(anatomy: Anatomy, kind: SiteKind, layer: int | None = None) -> int:
    """How many heads a kind has in a layer, without one the most of any: grouped queries share keys and values."""
    where = anatomy if layer is None else anatomy.blocks[layer]
    return where.kv_heads if kind in KV_KINDS else where.heads


def layer_of(exchange: Exchange) -> int:
    """The layer whose start or inside an exchange changes.

    From resid_mid on, a position's row depends on nothing but itself, so exchanging the whole of resid_mid or
    resid_post is exchanging the next layer's resid_pre.
    """
    return exchange.layer + (exchange.kind is SiteKind.RESID_POST or _is_whole_middle(exchange))


def stage_of(exchange: Exchange) -> Stage:
    """Where in that layer."""
    if exchange.kind is SiteKind.RESID_MID and not exchange.is_whole:
        return Stage.MID
    return STAGES[exchange.kind]


def _in_its_place(exchange: Exchange) -> Exchange:
    """The middle of the stream, exchanged there and not behind the layer.

    There it would undo what is exchanged beside it, and a donor that is no run holds no row that its middle leads to.
    """
    return exchange._replace(value=donors_own) if _is_whole_middle(exchange) else exchange


def _is_whole_middle(exchange: Exchange) -> bool:
    return exchange.kind is SiteKind.RESID_MID and exchange.is_whole


def _moved(anatomy: Anatomy, exchange: Exchange, *, last: int | None, beginning: int) -> Moves:
    """The positions whose exchange can change the decision, which is read at the last one; all if there is none."""
    layer, stage = layer_of(exchange), stage_of(exchange)
    seen_by_attention = stage in {Stage.RESID, Stage.K, Stage.V}
    behind = last is not None and (layer == anatomy.layers or (layer == anatomy.layers - 1 and not seen_by_attention))
    pairs = sorted(zip(exchange.recipient, exchange.donor, strict=True))
    acts = exchange.value is not None
    return tuple((to, by) for to, by in pairs if (acts or to != by or to >= beginning) and (to == last or not behind))


def _of_other_tokens(exchange: Exchange, moved: Moves, same: Sequence[bool]) -> Moves:
    """Those of the moves that bring another token's row."""
    if exchange.value is not None:
        return moved
    return tuple((to, by) for to, by in moved if to != by or to >= len(same) or not same[to])


def edits_of(
    anatomy: Anatomy, exchange: Exchange, moved: Moves, recipient: Recording, donor: Recording, *, start: int
) -> Iterator[Edit]:
    """What is changed in a run that begins at a position, so that the recipient gets the donor's activation."""
    device = recipient.entry.hidden.device
    to = torch.tensor([to for to, _ in moved], device=device)
    values = _values(anatomy, exchange, [by for _, by in moved], donor)
    change = None if exchange.is_whole else Change(exchange.part, exchange.value)
    yield Edit(stage_of(exchange), layer_of(exchange), exchange.head, to - start, values, change)


def _values(anatomy: Anatomy, exchange: Exchange, by: list[int], donor: Recording) -> Float[Tensor, "row width"]:
    """The donor's activation of a site at some of its positions."""
    stage, layer, head = stage_of(exchange), layer_of(exchange), exchange.head
    if stage is Stage.MID:
        return donor.resid[layer][by] + anatomy.blocks[layer].multiplier * donor.attn_out[layer][by]
    if head is None:
        return kept_of(donor, stage)[layer][by]
    if stage is Stage.PATTERN:
        return pattern_rows(donor, layer, head, torch.tensor(by, device=donor.entry.hidden.device))
    if stage is Stage.Z:
        return donor.z[layer][by].view(len(by), anatomy.blocks[layer].heads, -1)[:, head]
    heads = donor.heads[layer]
    return {Stage.Q: heads.query, Stage.K: heads.key, Stage.V: heads.value}[stage][head, by]


def kept_of(donor: Recording, stage: Stage) -> Sequence[Float[Tensor, "position width"]]:
    """What the donor keeps of a stage, by layer; InvalidTrace for neurons that were not recorded."""
    if stage is Stage.NEURONS and not donor.neurons:
        raise InvalidTrace("this recording holds no neurons", remedy="record the prompt with its neurons")
    kept = {
        Stage.RESID: donor.resid,
        Stage.Z: donor.z,
        Stage.ATTN_OUT: donor.attn_out,
        Stage.MLP_OUT: donor.mlp_out,
        Stage.NEURONS: donor.neurons,
    }
    return kept[stage]


def require_change(anatomy: Anatomy, exchanges: Sequence[Exchange], recipient: Recording, donor: Recording) -> None:
    """Raise InvalidTrace if nothing would change, for those who ask for one patch and would read its zero as found."""
    placed = place(anatomy, 0, exchanges, recipient, donor, same=equal_rows(recipient, donor))
    names = " + ".join(exchange.name for exchange in exchanges)
    if placed is None:
        raise InvalidTrace(
            f"{names} cannot change the decision: both prompts are the same up to there, or no attention reads it",
            remedy="name positions from the first differing token on, in front of the first attention that token; "
            "behind the last attention, the last one",
        )
    for exchange, moved in placed.acting:
        own = _values(anatomy, exchange, [to for to, _ in moved], recipient)
        edits = edits_of(anatomy, exchange, moved, recipient, donor, start=0)
        if not all(torch.equal(edit.put_into(own), own) for edit in edits):
            return
    raise InvalidTrace(
        f"{names} is the same on both sides, so the patch changes nothing",
        remedy="name a site whose activation differs, or another donor",
    )
