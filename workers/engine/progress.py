"""How long work says where it is, and is told to stop."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from audit_service.errors import Cancelled

Progress = Callable[[int, int, float], None]
"""Called with (cells done, cells in all, largest |effect| so far in nats)."""
StopCheck = Callable[[], bool]
"""Asked between layers; true means that the user wants the work to end."""

Cells = NDArray[Any]
"""Of the number format that they are computed in."""
Keep = Callable[[str, Callable[[], Cells]], Cells]
"""Gives what was kept under a name, or computes and keeps it: how long work that was stopped goes on."""


def keep_nothing(_: str, compute: Callable[[], Cells]) -> Cells:
    """Compute, whatever the name."""
    return compute()


def kept_under(keep: Keep, prefix: str) -> Keep:
    """The same under names that begin with a prefix."""
    return lambda name, compute: keep(f"{prefix}.{name}", compute)


def no_progress(done: int, total: int, effect: float) -> None:
    """Say nothing."""


def one_of(progress: Progress, number: int, parts: int) -> Progress:
    """Progress of one of several equal parts, told as that of all of them."""
    return lambda done, total, effect: progress(number * total + done, parts * total, effect)


class Tally:
    """Progress of measurements one after another, told as that of all of them with the largest effect so far."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._done, self._largest = 0, 0.0

    def inside(self, cells: int, _: int, effect: float) -> None:
        """Say where the measurement under way is; a Progress for it."""
        self._largest = max(self._largest, effect)
        self._progress(self._done + cells, self._total, self._largest)

    def finished(self, cells: int) -> None:
        """Count the measurement, which may have been kept from an earlier time and so said nothing."""
        self._done += cells
        self._progress(self._done, self._total, self._largest)


def never_stop() -> bool:
    """Always go on."""
    return False


def stop_if_asked(should_stop: StopCheck) -> None:
    """Raise Cancelled when the check says so."""
    if should_stop():
        raise Cancelled("the work was cancelled", remedy="start or resume the run to compute what is missing")
