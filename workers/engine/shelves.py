"""Where the activations of a recording are kept: on the device, in host memory, or nowhere, to be computed again.

The budget is spent layer by layer as the recording is made. What does not fit is computed again when it is asked for,
from the last residual stream below it that was kept, and one layer of that is remembered: who walks through the layers
in order pays one more pass over the prompt.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

Kept = TypeVar("Kept")
SHARE = 0.5
"""Of the memory that is free: the rest is for runs in flight and for other processes."""


@dataclass(frozen=True, slots=True)
class Memory:
    """How many bytes one recording may keep."""

    device: int
    """On an accelerator; nothing of a model on the processor counts here."""
    host: int

    @classmethod
    def of_this_machine(cls) -> "Memory":
        """Half of what is free now for two recordings, the recipient's and the donor's."""
        free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
        return cls(device=int(free * SHARE / 2), host=int(_free_host_bytes() * SHARE / 2))


def _free_host_bytes() -> int:
    # macOS does not say how many pages are free; half of all is a careful guess.
    pages, share = ("SC_AVPHYS_PAGES", 1.0) if "SC_AVPHYS_PAGES" in os.sysconf_names else ("SC_PHYS_PAGES", 0.5)
    return int(os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE") * share)


class Account:
    """What is left of a recording's memory."""

    def __init__(self, memory: Memory) -> None:
        self._left = memory

    def place(self, value: Kept) -> "Slot[Kept]":
        """Keep a tensor, or a named tuple with tensors in it, where there is room."""
        tensors = _tensors(value)
        size, left = sum(tensor.nbytes for tensor in tensors), self._left
        on_device = any(tensor.is_cuda for tensor in tensors)
        if on_device and size <= left.device:
            self._left = replace(left, device=left.device - size)
            return Slot(value, None)
        if size > left.host:
            return Slot(None, None)
        self._left = replace(left, host=left.host - size)
        if not on_device:
            return Slot(value, None)
        return Slot(_mapped(value, lambda tensor: tensor.cpu().pin_memory()), tensors[0].device)


class Slot(NamedTuple, Generic[Kept]):
    """One value, where it is kept."""

    value: Kept | None
    """None if it is to be computed again."""
    home: torch.device | None
    """The device that a value in host memory belongs to."""


class Shelf(Sequence[Kept]):
    """Values by layer."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._slots: list[Slot[Kept]] = []
        self.again: Callable[[int], Kept] | None = None
        """Computes a layer's value again."""

    def append(self, value: Kept) -> None:
        """Put in the next layer's value."""
        self._slots.append(self._account.place(value))

    def has(self, layer: int) -> bool:
        """Whether the layer's value is kept."""
        return self._slots[layer].value is not None

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, layer: Any) -> Any:  # noqa: ANN401 - the signature of a sequence
        if isinstance(layer, slice):
            return [self[number] for number in range(*layer.indices(len(self)))]
        number = range(len(self))[layer]
        value, home = self._slots[number]
        if value is None:
            assert self.again is not None  # noqa: S101 - set when the recording was made
            return self.again(number)
        return value if home is None else _mapped(value, lambda tensor: tensor.to(home, non_blocking=True))

    def __iter__(self) -> Iterator[Kept]:
        return (self[layer] for layer in range(len(self)))


def _tensors(value: object) -> list[Tensor]:
    parts = value if isinstance(value, tuple) else (value,)
    return [part for part in parts if isinstance(part, Tensor)]


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:  # noqa: ANN401 - a tensor or named tuple of them
    if isinstance(value, Tensor):
        return change(value)
    return value._replace(**{n: change(p) for n, p in value._asdict().items() if isinstance(p, Tensor)})
