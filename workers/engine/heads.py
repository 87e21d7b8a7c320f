"""Queries, keys, values and patterns of single heads, exchanged through what they make of the head's output z.

The run up to these sites is the recipient's own, so the z that follows from an exchange is computed from the two
recordings alone, and put in like any other z.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidTrace
from workers.engine.attention import Heads, weights_of
from workers.engine.donors import Recording
from workers.engine.positions import Exchange

INSIDE = frozenset({SiteKind.Q, SiteKind.K, SiteKind.V, SiteKind.PATTERN})
Rows = Int[Tensor, " row"]
HeadRows = tuple[int, Rows, Float[Tensor, "row value_width"]]
"""Query head, positions, and the z that it has there after the exchange."""


def changed_z(exchange: Exchange, to: Rows, by: Rows, recipient: Recording, donor: Recording) -> Iterator[HeadRows]:
    """The rows of z that change when q, k, v or the pattern is exchanged at these positions of one layer.

    A query or a pattern row changes its own position; a key or value changes all later ones, for every query head that
    shares it.
    """
    mine, others = recipient.heads[exchange.layer], donor.heads[exchange.layer]
    assert exchange.head is not None  # noqa: S101 - checked when placed
    mask = recipient.entry.calls[exchange.layer].mask
    repeat = mine.query.shape[0] // mine.key.shape[0]
    if exchange.kind in {SiteKind.K, SiteKind.V}:
        later = torch.arange(int(to.min()), recipient.length, device=to.device)
        key, value = mine.key[exchange.head].clone(), mine.value[exchange.head].clone()
        if exchange.kind is SiteKind.K:
            key[to] = others.key[exchange.head, by]
        else:
            value[to] = others.value[exchange.head, by]
        for head in range(exchange.head * repeat, (exchange.head + 1) * repeat):
            yield head, later, _pattern(mine, mine.query[head, later], key, mask[later]) @ value
        return
    group = exchange.head // repeat
    if exchange.kind is SiteKind.Q:
        weights = _pattern(mine, others.query[exchange.head, by], mine.key[group], mask[to])
    else:
        donor_mask = donor.entry.calls[exchange.layer].mask
        weights = _pattern(others, others.query[exchange.head, by], others.key[group], donor_mask[by])
    # A pattern of the donor covers its prompt alone, not the labels that may stand behind the recipient's.
    yield exchange.head, to, weights @ mine.value[group, : weights.shape[1]]


def _pattern(
    heads: Heads,
    query: Float[Tensor, "query key_width"],
    key: Float[Tensor, "key key_width"],
    mask: Float[Tensor, "query key"],
) -> Float[Tensor, "query key"]:
    return weights_of(query @ key.T, heads, mask)


def require_counterpart(exchange: Exchange, recipient: Recording, donor: Recording) -> None:
    """Raise InvalidTrace where donor positions differ and the activation carries its position."""
    shifted = exchange.kind in INSIDE - {SiteKind.V} and exchange.recipient != exchange.donor
    uneven = exchange.kind is SiteKind.PATTERN and recipient.length != donor.length
    if shifted or uneven:
        raise InvalidTrace(
            f"{exchange.kind} depends on the token's position, so it has no counterpart at another position",
            remedy="use pairs whose cues have equal token lengths for this kind, or v or z",
        )
