"""Where the activations of a recording are kept: on the device, in host memory, or nowhere, to be computed again.

The budget is spent layer by layer as the recording is made. What does not fit is computed again when it is asked for,
from the last residual stream below it that was kept, and one layer of that is remembered: who walks through the layers
in order pays one more pass over the prompt.
"""

import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import psutil
import torch
from torch import Tensor

from workers.engine import heap

Kept = TypeVar("Kept")
SHARE = 0.5
"""Of the memory that is free: the rest is for runs in flight and for other processes."""


@dataclass(frozen=True, slots=True)
class Memory:
    """How many bytes one recording may keep, and how many the runs in flight may take."""

    device: int
    """On an accelerator; nothing of a model on the processor counts here."""
    host: int
    flight: int = sys.maxsize
    """Where the model computes."""

    @classmethod
    def of_this_machine(cls) -> "Memory":
        """Half of what is free now for two recordings, the recipient's and the donor's, a quarter for flights."""
        free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
        host = _free_host_bytes()
        return cls(int(free * SHARE / 2), int(host * SHARE / 2), flight=int((free or host) * SHARE / 2))


def _free_host_bytes() -> int:
    """Of the machine, or of the container or the process where these are allowed less."""
    heap.give_back()
    return max(0, min(int(psutil.virtual_memory().available), *_left_by_limits()))


def _left_by_limits() -> Iterator[int]:
    process, _ = resource.getrlimit(resource.RLIMIT_AS)
    if process != resource.RLIM_INFINITY:
        yield process - psutil.Process().memory_info().vms
    container = CGROUP / "memory.max"
    if container.is_file() and (limit := container.read_text().strip()) != "max":
        told = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        # Pages of files that nobody uses any more are given back when memory is asked for.
        yield int(limit) - int((CGROUP / "memory.current").read_text()) + int(told["inactive_file"])
    yield sys.maxsize


CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use."""


class Account:
    """What is left of a recording's memory."""

    def __init__(self, memory: Memory) -> None:
        self._left = memory

    def take(self, size: int, *, on_device: bool) -> None:
        """Count what is kept in any case, as far as there is memory for it."""
        left = self._left
        if on_device:
            self._left = replace(left, device=max(0, left.device - size))
        else:
            self._left = replace(left, host=max(0, left.host - size))

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
