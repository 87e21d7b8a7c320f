"""The attention function that the model's own attention modules call while the engine runs them.

Rows of many patched runs stand in one packed sequence, so plain attention over that sequence would be wrong.
transformers lets a model's attention function be exchanged (AttentionInterface); the one registered here hands queries,
keys and values to the flight that is under way, which knows which rows belong together.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from audit_service.domain.work import MOST_SCORES
from audit_service.errors import InvalidModel

NAME = "audit_packed"
_KNOWN = frozenset(
    {"position_ids", "position_embeddings", "use_cache", "cache_position", "is_causal", "output_attentions"}
    | {"output_router_logits", "sliding_window", "return_dict", "layer_past", "past_key_values", "deterministic"}
)
"""Arguments that are already in queries, keys, values and masks, or that change no number."""


class Heads(NamedTuple):
    """What one attention module computed for the packed rows."""

    query: Float[Tensor, "head row key_width"]
    key: Float[Tensor, "kv_head row key_width"]
    value: Float[Tensor, "kv_head row value_width"]
    scaling: float
    softcap: float | None
    sinks: Float[Tensor, " head"] | None = None
    """A further score of each head that takes weight from all keys and reads nothing (attention sinks)."""


Attend = Callable[[Heads], Float[Tensor, "row head value_width"]]
_attend: ContextVar[Attend] = ContextVar("audit_attend")


def _attention_function(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    dropout: float = 0.0,
    **more: Any,  # noqa: ANN401 - each family passes its own
) -> tuple[Tensor, None]:
    unknown = [name for name, given in more.items() if given is not None and name not in _KNOWN]
    if unknown or dropout or attention_mask is not None:
        raise InvalidModel(
            f"{type(module).__name__} calls its attention with {unknown or 'dropout or a mask'}: not supported",
            remedy="use a model of a supported family",
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _attend.get()(Heads(query[0], key[0], value[0], scale, softcap, s_aux))[None], None


AttentionInterface.register(NAME, _attention_function)


def _seen(*, allow_is_causal_skip: bool = True, allow_is_bidirectional_skip: bool = True, **more: Any) -> Tensor:  # noqa: ANN401, ARG001
    """Which keys each query sees [batch, 1, query, key], always written out: rows of packed runs need their own."""
    mask = sdpa_mask(allow_is_causal_skip=False, allow_is_bidirectional_skip=False, **more)
    assert mask is not None  # noqa: S101 - only a skipped mask is None
    return mask


AttentionMaskInterface.register(NAME, _seen)


@contextmanager
def packed_attention(model: PreTrainedModel, attend: Attend | None = None) -> Iterator[None]:
    """Inside the block the model's attention modules call ``attend``; afterwards all is as before."""
    found = (getattr(module, "config", None) for module in model.modules())
    configs = {id(config): config for config in found if isinstance(config, PreTrainedConfig)}
    before = [(config, config._attn_implementation) for config in configs.values()]
    token = None if attend is None else _attend.set(attend)
    try:
        for config, _ in before:
            config._attn_implementation = NAME
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = implementation
        if token is not None:
            _attend.reset(token)


class Prefix(NamedTuple):
    """Keys and values of the positions in front of the packed rows, of one layer."""

    key: Float[Tensor, "kv_head prefix key_width"]
    value: Float[Tensor, "kv_head prefix value_width"]


def attend_group(
    heads: Heads, prefix: Prefix, mask: Bool[Tensor, "query key"], *, members: int
) -> Float[Tensor, "row head value_width"]:
    """Attention of ``members`` runs that share a prefix: each sees the prefix and its own rows, never another's.

    Rows are member-major; the mask's query axis is the last part of a member's own positions (all of them, or only the
    last where no other is needed), its key axis prefix and own positions. The softmax is computed in float32, as the
    models' own eager attention does.
    """
    kv_heads, rows, width = heads.key.shape
    own, asked = rows // members, mask.shape[0]
    repeat = heads.query.shape[0] // kv_heads
    query = heads.query.view(kv_heads, repeat, members, own, -1)[:, :, :, own - asked :]
    # A copy of the prefix for each run pays where its queries are many, since then nothing else is written down.
    plain = heads.softcap is None and heads.sinks is None
    if plain and repeat * asked >= width // 2:
        return _attend_fused(query, heads, prefix, mask)
    key = heads.key.reshape(kv_heads * members, own, -1)
    value = heads.value.reshape(kv_heads * members, own, -1)
    parts = [
        _attend_queries(query[:, :, :, part], key, value, prefix=prefix, mask=mask[part], heads=heads)
        for part in _parts(asked, size=kv_heads * repeat * members * mask.shape[1])
    ]
    return joined(parts, dim=1).flatten(0, 1)


def joined(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The parts after one another; one alone is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)


def _parts(count: int, *, size: int) -> list[slice]:
    """Divide so many items of a size so that no part is larger than what may be in memory at once."""
    at_once = max(1, MOST_SCORES // size)
    return [slice(first, first + at_once) for first in range(0, count, at_once)]


def _attend_fused(
    query: Float[Tensor, "kv_head repeat member query key_width"],
    heads: Heads,
    prefix: Prefix,
    mask: Bool[Tensor, "query key"],
) -> Float[Tensor, "row head value_width"]:
    """Attention in PyTorch's fused operation, each run with keys and values of its own behind a copy of the prefix.

    Queries that share keys and values stand where the operation expects heads, so that nothing is copied for each.
    """
    kv_heads, repeat, members, asked, _ = query.shape
    keys, values = (rows.unflatten(1, (members, -1)) for rows in (heads.key, heads.value))
    widths = heads.key.shape[2] + heads.value.shape[2]
    found = []
    for some in _parts(members, size=kv_heads * mask.shape[1] * widths):
        key, value = _whole(prefix.key, keys[:, some], repeat), _whole(prefix.value, values[:, some], repeat)
        asking = query[:, :, some].transpose(1, 2).flatten(0, 1)
        parts = [
            functional.scaled_dot_product_attention(asking[:, :, part], key, value, mask[part], scale=heads.scaling)
            for part in _parts(asked, size=mask.shape[1])
        ]
        found.append(joined(parts, dim=2).unflatten(0, (kv_heads, -1)).permute(1, 3, 0, 2, 4).flatten(2, 3))
    return joined(found).flatten(0, 1)


def _whole(
    before: Float[Tensor, "kv_head prefix width"], own: Float[Tensor, "kv_head member own width"], repeat: int
) -> Float[Tensor, "kv_member repeat key width"]:
    """A copy of the prefix for each member, its own rows behind; the queries that share it see the same memory."""
    both = torch.cat((before.unsqueeze(1).expand(-1, own.shape[1], -1, -1), own), dim=2)
    return both.flatten(0, 1).unsqueeze(1).expand(-1, repeat, -1, -1)


def _attend_queries(
    query: Float[Tensor, "kv_head repeat member query key_width"],
    key: Float[Tensor, "kv_member own key_width"],
    value: Float[Tensor, "kv_member own value_width"],
    *,
    prefix: Prefix,
    mask: Bool[Tensor, "query key"],
    heads: Heads,
) -> Float[Tensor, "member query head value_width"]:
    kv_heads, repeat, members, asked, _ = query.shape
    query = query.permute(0, 2, 1, 3, 4).contiguous().view(kv_heads, members * repeat * asked, -1)
    own_scores = query.view(kv_heads * members, repeat * asked, -1) @ key.transpose(1, 2)
    scores = torch.cat((query @ prefix.key.transpose(1, 2), own_scores.view(kv_heads, -1, key.shape[1])), dim=-1)
    sinks = None
    if heads.sinks is not None:
        sinks = heads.sinks.view(kv_heads, 1, repeat).expand(-1, members, -1).reshape(kv_heads, members * repeat)
    weights = weights_of(scores.view(kv_heads, members * repeat, asked, -1), heads, mask, sinks=sinks)

    before = prefix.key.shape[1]
    weights = weights.view(kv_heads, members * repeat * asked, -1)
    out = weights[..., :before] @ prefix.value
    own_weights = weights[..., before:].reshape(kv_heads * members, repeat * asked, -1)
    out = out + (own_weights @ value).view_as(out)
    return out.view(kv_heads, members, repeat, asked, -1).permute(1, 3, 0, 2, 4).flatten(2, 3)


def weights_of(
    scores: Float[Tensor, "*more query key"],
    heads: Heads,
    mask: Bool[Tensor, "query key"],
    *,
    sinks: Float[Tensor, "*more"] | None,
) -> Float[Tensor, "*more query key"]:
    """Attention pattern from the products of queries and keys, as these heads make it; overwrites the products.

    ``sinks`` are the heads' own, in the order of the products; with them a pattern's row sums to less than 1.
    """
    scores.mul_(heads.scaling)
    if heads.softcap is not None:
        scores = torch.tanh(scores / heads.softcap) * heads.softcap
    scores.masked_fill_(~mask, torch.finfo(scores.dtype).min)
    if sinks is None:
        return torch.softmax(scores, dim=-1, dtype=torch.float32).to(heads.value.dtype)
    beside = sinks.to(scores)[..., None, None].expand(*scores.shape[:-1], 1)
    both = torch.softmax(torch.cat((scores, beside), dim=-1), dim=-1, dtype=torch.float32)
    return both[..., :-1].to(heads.value.dtype)
