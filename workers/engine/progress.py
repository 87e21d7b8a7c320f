"""How long work says where it is, and is told to stop."""

from collections.abc import Callable

from audit_service.errors import Cancelled

Progress = Callable[[int, int, float], None]
"""Called with (cells done, cells in all, largest |effect| so far in nats)."""
StopCheck = Callable[[], bool]
"""Asked between layers; true means that the user wants the work to end."""


def no_progress(done: int, total: int, effect: float) -> None:
    """Say nothing."""


def never_stop() -> bool:
    """Always go on."""
    return False


def stop_if_asked(should_stop: StopCheck) -> None:
    """Raise Cancelled when the check says so."""
    if should_stop():
        raise Cancelled("the work was cancelled", remedy="start or resume the run to compute what is missing")
