"""Queries, keys, values and patterns of single heads."""

from jaxtyping import Float, Int
from torch import Tensor

from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidTrace
from workers.engine.attention import weights_of
from workers.engine.donors import Recording
from workers.engine.positions import Exchange

INSIDE = frozenset({SiteKind.Q, SiteKind.K, SiteKind.V, SiteKind.PATTERN})


def pattern_rows(recording: Recording, layer: int, head: int, at: Int[Tensor, " row"]) -> Float[Tensor, "row position"]:
    """Attention weights of one query head at some positions over all positions of its prompt."""
    heads = recording.heads[layer]
    shared = head // (heads.query.shape[0] // heads.key.shape[0])
    mask = recording.entry.calls[layer].mask[at].to(heads.query.device)
    return weights_of(heads.query[head, at] @ heads.key[shared].T, heads, mask)


def require_counterpart(exchange: Exchange, recipient: Recording, donor: Recording) -> None:
    """Raise InvalidTrace where donor positions differ and the activation carries its position."""
    shifted = exchange.kind in INSIDE - {SiteKind.V} and exchange.recipient != exchange.donor
    uneven = exchange.kind is SiteKind.PATTERN and recipient.length != donor.length
    if shifted or uneven:
        raise InvalidTrace(
            f"{exchange.kind} depends on the token's position, so it has no counterpart at another position",
            remedy="use pairs whose cues have equal token lengths for this kind, or v or z",
        )
