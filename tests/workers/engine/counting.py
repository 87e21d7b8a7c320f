"""What the layers of a model really compute while a block runs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from torch import Tensor, nn

from audit_service.domain.work import Work
from workers.engine import flight
from workers.engine.attention import Heads, Prefix, attend_group
from workers.engine.subject import Subject


@dataclass
class Counted:
    """Sums over layers."""

    rows: int = 0
    calls: int = 0
    groups: int = 0
    attended: int = 0
    entries: int = 0

    @classmethod
    def of(cls, work: Work) -> tuple[float, ...]:
        """What a work says of the same."""
        return work.layer_rows + work.last_rows, work.layer_calls, work.groups, work.attended, work.entries

    def all(self) -> tuple[float, ...]:
        return self.rows, self.calls, self.groups, self.attended, self.entries


@contextmanager
def counting(subject: Subject) -> Iterator[Counted]:
    """Count what passes the layers' own forward, and what their attention is asked for."""
    counted, first = Counted(), subject.anatomy.blocks[0].layer

    def passed(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        if "forward" in layer.__dict__:  # it only notes what it is called with
            counted.entries += layer is first
            return
        counted.rows += arguments[0].shape[:-1].numel()
        counted.calls += 1

    def attended(heads: Heads, prefix: Prefix, mask: Tensor, *, members: int) -> Tensor:
        counted.groups += 1
        counted.attended += mask.numel() * members
        return attend_group(heads, prefix, mask, members=members)

    with ExitStack() as stack:
        for block in subject.anatomy.blocks:
            stack.callback(block.layer.register_forward_pre_hook(passed).remove)
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(flight, "attend_group", attended)
        yield counted
