"""Queries, keys, values and patterns of single heads."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidTrace
from workers.engine.attention import Heads, weights_of
from workers.engine.donors import Recording
from workers.engine.positions import Exchange

INSIDE = frozenset({SiteKind.Q, SiteKind.K, SiteKind.V, SiteKind.PATTERN})


def pattern_rows(recording: Recording, layer: int, head: int, at: Int[Tensor, " row"]) -> Float[Tensor, "row position"]:
    """Attention weights of one query head at some positions over all positions of its prompt."""
    heads = recording.heads[layer]
    shared = head // (heads.query.shape[0] // heads.key.shape[0])
    mask = recording.entry.calls[layer].mask[at].to(heads.query.device)
    return head_weights(heads, head, heads.query[head, at] @ heads.key[shared].T, mask)


def head_weights(
    heads: Heads, head: int, scores: Float[Tensor, "query key"], mask: Bool[Tensor, "query key"]
) -> Float[Tensor, "query key"]:
    """Attention pattern of one query head from its products of queries and keys, which it overwrites."""
    return weights_of(scores, heads, mask, sinks=None if heads.sinks is None else heads.sinks[head])


def require_counterpart(exchange: Exchange, recipient: Recording, donor: Recording) -> None:
    """Raise InvalidTrace where donor positions differ and the activation carries its position, or it has no pattern."""
    if exchange.kind is SiteKind.PATTERN and donor.blended:
        raise InvalidTrace(
            f"{exchange.name}: a donor of zeros, means or noise has no attention pattern of its own",
            remedy="ablate z instead, or take the pattern of another prompt",
        )
    shifted = exchange.kind in INSIDE - {SiteKind.V} and exchange.recipient != exchange.donor
    uneven = exchange.kind is SiteKind.PATTERN and recipient.length != donor.length
    if shifted or uneven:
        raise InvalidTrace(
            f"{exchange.kind} depends on the token's position, so it has no counterpart at another position",
            remedy="use pairs whose cues have equal token lengths for this kind, or v or z",
        )
