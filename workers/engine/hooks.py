"""Hooks that live inside ``with`` and leave the model as it was, whatever happens inside."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

RowsFunction = Callable[[Tensor], None]
"""Reads or changes in place a [row, width] view of an activation."""


@contextmanager
def on_input(module: nn.Module, act: RowsFunction) -> Iterator[None]:
    """Let ``act`` see, and change in place, a copy of the module's input that the module then receives."""

    def hook(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        copy = arguments[0].clone()
        act(copy.view(-1, copy.shape[-1]))
        return (copy, *arguments[1:])

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def on_output(module: nn.Module, act: RowsFunction) -> Iterator[None]:
    """Let ``act`` see, and change in place, the module's output, or the first of its outputs."""

    def hook(_: nn.Module, __: tuple[Any, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        rows = output[0] if isinstance(output, tuple) else output
        act(rows.view(-1, rows.shape[-1]))

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def summed(first: nn.Module | None, last: nn.Module) -> Iterator[None]:
    """Let the last of two modules whose outputs a layer adds give their sum, and the first zeros.

    Hooks that are set on the last one's output inside see and change the sum.
    """
    if first is None:
        yield
        return
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        kept.append(output)
        return torch.zeros_like(output)

    handles = [
        first.register_forward_hook(keep),
        last.register_forward_hook(lambda _, __, output: kept.pop() + output),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def instead(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let the module do something else when it is called."""
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.__dict__["forward"]
        else:
            module.forward = own


@contextmanager
def narrowed(first: nn.Module, last: nn.Module, rows: Int[Tensor, " kept"]) -> Iterator[None]:
    """Compute from ``first`` to ``last`` for these rows only; the others' output is zero."""
    total = 0

    def narrow(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal total
        total = arguments[0].shape[-2]
        return (arguments[0].index_select(-2, rows.to(arguments[0].device)), *arguments[1:])

    def widen(_: nn.Module, __: tuple[Any, ...], output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        if isinstance(output, tuple):
            return (_wide(output[0], rows, total), *output[1:])
        return _wide(output, rows, total)

    handles = [first.register_forward_pre_hook(narrow), last.register_forward_hook(widen)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _wide(output: Tensor, rows: Int[Tensor, " kept"], total: int) -> Tensor:
    wide = output.new_zeros(*output.shape[:-2], total, output.shape[-1])
    return wide.index_copy_(-2, rows.to(output.device), output)
