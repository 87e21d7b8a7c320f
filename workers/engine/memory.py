"""How much memory runs in flight take, how many fit into what there is, and what happens when they do not.

The formula counts what is alive at once where most is: the stream, its normalised copy, queries, keys, values and their
copies or the MLP's hidden activations (gate, projection, product and its input), and the attention scores in float32.
What a machine really takes is measured by a calibration (costs.py); runs that do not fit are flown in halves.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from audit_service.domain.work import largest_flight
from audit_service.errors import TooLittleMemory
from workers.engine.shelves import Memory
from workers.engine.subject import Subject

COPIES = 4
"""Of a row's widths that are alive at once."""
SHARES = (1.0, 0.25, 0.0)
"""Of a recording's memory that are tried; what is not kept is computed again when it is read."""
_REMEDY = "use shorter prompts, a smaller number format, a device with more memory, or several devices"
Item = TypeVar("Item")
Made = TypeVar("Made")


def rows_at_once(subject: Subject, *, length: int) -> int:
    """Rows of the largest flight over prompts of that length that the subject's memory holds."""
    return largest_flight(subject.memory.flight, length, row_bytes=row_bytes(subject), heads=subject.anatomy.heads)


def row_bytes(subject: Subject) -> int:
    """Memory of one row in flight, attention scores aside."""
    anatomy = subject.anatomy
    hidden = max(size for module in anatomy.blocks[0].layer.modules() for size in _sizes(module))
    return COPIES * (anatomy.width + hidden) * subject.dtype.itemsize


def _sizes(module: nn.Module) -> Iterator[int]:
    """Widths that a module reads and gives; packed weights have a shape that tells nothing of them."""
    if isinstance(module, nn.Linear):
        yield from (module.in_features, module.out_features)
    else:
        yield from (size for parameter in module.parameters(recurse=False) for size in parameter.shape)


def in_halves(items: Sequence[Item], fly: Callable[[Sequence[Item]], Tensor]) -> Tensor:
    """What ``fly`` gives for the items, row by row; for halves of them where there is too little memory for all.

    Raises:
        TooLittleMemory: a single one does not fit.
    """
    try:
        return fly(items)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(items) == 1:
            raise TooLittleMemory(
                "one patched run does not fit into the memory of this machine", remedy=_REMEDY
            ) from error
    # Outside of the handler, whose error holds on to the tensors of the flight that failed.
    middle = len(items) // 2
    return torch.cat([in_halves(half, fly) for half in (items[:middle], items[middle:])])


def with_less(memory: Memory, keep: Callable[[Memory], Made], shares: Sequence[float] = SHARES) -> Made:
    """What ``keep`` makes within a recording's memory; of less of it, where the machine has less than was thought.

    Raises:
        TooLittleMemory: it cannot be made even if nothing is kept.
    """
    share, *smaller = shares
    try:
        return keep(replace(memory, device=int(memory.device * share), host=int(memory.host * share)))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if not smaller:
            raise TooLittleMemory(
                "one pass over a prompt does not fit into the memory of this machine", remedy=_REMEDY
            ) from error
    return with_less(memory, keep, smaller)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is too little memory; PyTorch has no class for that of the processor."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)
