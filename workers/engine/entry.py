"""How a prompt enters the layers: embeddings, masks, and what each layer is told about positions."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from audit_service.errors import InvalidModel, InvalidPairs
from workers.engine.attention import packed_attention
from workers.engine.hooks import instead
from workers.engine.subject import Subject


@dataclass(frozen=True, slots=True)
class LayerCall:
    """What one layer receives beside the residual stream."""

    mask: Bool[Tensor, "position position"]
    """[query, key] whether the query sees the key."""
    by_position: Mapping[str, Any]
    """Tensors (or tuples of tensors) with one row per position."""
    constant: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A prompt in front of the first layer."""

    ids: tuple[int, ...]
    hidden: Float[Tensor, "position width"]
    calls: tuple[LayerCall, ...]
    """By layer; none for a family that attends by its own means (``layer_arguments``)."""


def enter(subject: Subject, ids: Sequence[int]) -> Entry:
    """Embed a prompt through the model's own code, without running any layer.

    Raises InvalidPairs for an empty or too long prompt or ids outside the vocabulary, InvalidModel if the model tells
    its layers something that the engine does not know how to divide among positions.
    """
    check_prompt(subject, ids)
    hidden, seen = _note(subject, [ids])
    calls = _layer_calls(seen, len(ids)) if subject.anatomy.flow.packs else ()
    return Entry(ids=tuple(ids), hidden=hidden[0], calls=calls)


def embed(subject: Subject, tokens: Sequence[int]) -> Float[Tensor, "token width"]:
    """What enters the first layer for texts of one token each."""
    return _note(subject, [[token] for token in tokens])[0][:, 0]


def layer_arguments(subject: Subject, ids: Sequence[int], *, batch: int) -> list[dict[str, Any]]:
    """What each layer is told beside the residual stream when ``batch`` runs of one prompt pass as a batch."""
    return _note(subject, [ids] * batch)[1]


def _note(
    subject: Subject, prompts: Sequence[Sequence[int]]
) -> tuple[Float[Tensor, "prompt position width"], list[dict[str, Any]]]:
    """Embedded prompts, and the arguments that each layer would be called with."""
    seen: list[dict[str, Any]] = []
    hidden: list[Tensor] = []
    flow = subject.anatomy.flow
    with packed_attention(subject.model) if flow.packs else nullcontext(), ExitStack() as stack:
        for block in subject.anatomy.blocks:
            note = _noting(block.layer, hidden, seen, gives_pair=subject.anatomy.gives_pair)
            stack.enter_context(instead(block.layer, note))
        ids = torch.tensor([list(prompt) for prompt in prompts], device=subject.device)
        subject.model.base_model(input_ids=ids, **({"use_cache": False} if flow.causal else {}))
    return hidden[0], seen


def take_positions(value: Any, positions: Int[Tensor, " row"]) -> Any:  # noqa: ANN401 - tensors, possibly in tuples
    """The rows of per-position tensors at the given positions."""
    if isinstance(value, tuple):
        return tuple(take_positions(part, positions) for part in value)
    return value.index_select(_position_axis(value), positions)


def join_positions(values: Sequence[Any]) -> Any:  # noqa: ANN401 - tensors, possibly in tuples
    """Rows of several prompts after one another; the inverse of dividing them."""
    first = values[0]
    if len(values) == 1:
        return first
    if isinstance(first, tuple):
        return tuple(join_positions(parts) for parts in zip(*values, strict=True))
    return torch.cat(list(values), dim=_position_axis(first))


def _position_axis(value: Tensor) -> int:
    """Axis 0 of a vector, otherwise axis 1 behind the batch axis."""
    return min(value.ndim - 1, 1)


def same_told(one: Any, other: Any) -> bool:  # noqa: ANN401 - tensors, possibly in tuples
    """Whether per-position tensors are equal."""
    if isinstance(one, tuple):
        return all(same_told(a, b) for a, b in zip(one, other, strict=True))
    return torch.equal(one, other)


def same_beginning(one: Entry, other: Entry, length: int) -> bool:
    """Whether the layers are told the same of the first positions of both prompts.

    Position encodings may look at the length of the whole text (LongRoPE), and then the same tokens give other keys.
    """
    first = torch.arange(length, device=one.hidden.device)
    pairs = {(id(mine), id(theirs)): (mine, theirs) for mine, theirs in zip(one.calls, other.calls, strict=True)}
    return all(
        same_told(take_positions(value, first), take_positions(theirs.by_position[name], first))
        for mine, theirs in pairs.values()
        for name, value in mine.by_position.items()
    )


def check_prompt(subject: Subject, ids: Sequence[int], *, behind: int = 0) -> None:
    """Raise InvalidPairs if the model cannot take this prompt with ``behind`` tokens of a label behind it."""
    context = subject.anatomy.context
    if not ids:
        raise InvalidPairs("a prompt has no tokens", remedy="give a prompt that is not empty")
    if context is not None and len(ids) + behind > context:
        with_label = f" and a label {behind + 1}" if behind else ""
        raise InvalidPairs(
            f"a prompt has {len(ids)} tokens{with_label}, the model's context is {context}", remedy="shorten the prompt"
        )
    embeddings = subject.embeddings.num_embeddings
    if not 0 <= min(ids) <= max(ids) < embeddings:
        raise InvalidPairs(
            f"a prompt holds token {max(ids)}, outside the model's vocabulary of {embeddings}",
            remedy="use the tokenizer that belongs to this model",
        )


def _noting(
    layer: nn.Module, hidden: list[Tensor], seen: list[dict[str, Any]], *, gives_pair: bool
) -> Callable[..., Any]:
    """Instead of computing, the layer notes its arguments and hands its input on."""
    signature = inspect.signature(type(layer).forward)
    _, stream, *_ = signature.parameters

    def note(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the family passes
        arguments = dict(signature.bind(layer, *args, **kwargs).arguments)
        arguments.update(arguments.pop("kwargs", {}))
        del arguments["self"]
        hidden.append(arguments.pop(stream))
        seen.append(arguments)
        return (hidden[-1], None) if gives_pair else hidden[-1]

    return note


def _layer_calls(seen: Sequence[dict[str, Any]], length: int) -> tuple[LayerCall, ...]:
    """One call per layer; layers that are told the very same share one, as masks of long prompts are large."""
    made: dict[frozenset[tuple[str, int]], LayerCall] = {}
    keys = [frozenset((name, id(value)) for name, value in arguments.items()) for arguments in seen]
    for key, arguments in zip(keys, seen, strict=True):
        if key not in made:
            made[key] = _layer_call(arguments, length)
    return tuple(made[key] for key in keys)


_MASKS: WeakValueDictionary[tuple[torch.Size, torch.device, int], Tensor] = WeakValueDictionary()
"""Masks that are in use, by shape, device and how much they let see."""


def _shared(mask: Bool[Tensor, "position position"]) -> Bool[Tensor, "position position"]:
    """The equal mask of another prompt that is in use, if there is one: those of long prompts are large."""
    known = _MASKS.setdefault((mask.shape, mask.device, int(mask.count_nonzero())), mask)
    return known if torch.equal(known, mask) else mask


def _layer_call(arguments: dict[str, Any], length: int) -> LayerCall:
    mask = _shared(arguments["attention_mask"][0, 0])
    by_position = {
        name: value for name, value in arguments.items() if name != "attention_mask" and _is_by_position(value, length)
    }
    constant = {
        name: value for name, value in arguments.items() if name != "attention_mask" and name not in by_position
    }
    if unknown := [name for name, value in constant.items() if not _is_constant(value)]:
        raise InvalidModel(
            f"the model's layers receive {', '.join(unknown)}, which the engine cannot divide among positions",
            remedy="use a model of a supported family",
        )
    return LayerCall(mask=mask, by_position=by_position, constant=constant)


def _is_constant(value: Any) -> bool:  # noqa: ANN401 - whatever the family passes
    """Whether it says the same to all rows; a container that is empty says nothing."""
    return isinstance(value, (bool, int, float, str, type(None))) or (isinstance(value, Mapping) and not value)


def _is_by_position(value: Any, length: int) -> bool:  # noqa: ANN401 - whatever the family passes
    if isinstance(value, tuple):
        return bool(value) and all(_is_by_position(part, length) for part in value)
    if not isinstance(value, Tensor):
        return False
    return value.shape[_position_axis(value)] == length and (value.ndim == 1 or value.shape[0] == 1)
