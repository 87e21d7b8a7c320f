"""The one function that moves a run, and writes who did it and why in the same transaction."""

from datetime import UTC, datetime

from audit_service.db.handles import WriteSession
from audit_service.db.tables import RunRow
from audit_service.domain.lifecycle import ENDED, EventKind, RunState, check_move
from audit_service.errors import NotFound
from audit_service.events import repository as events
from audit_service.notifications import announce


def move(session: WriteSession, run_id: str, to: RunState, *, by: str, reason: str | None = None) -> RunRow:
    """Bring the run to the state, or raise Conflict where the table has no such move.

    The row stays locked until the transaction ends, so that of two opposite moves the second sees the first.
    """
    run = locked(session, run_id)
    check_move(run.state, to)
    event = {"from": run.state.value, "to": to.value, "reason": reason}
    now = datetime.now(UTC)
    run.state, run.reason = to, reason
    run.started_at = run.started_at or (now if to is RunState.RUNNING else None)
    run.ended_at = now if to in ENDED else None
    announce.run_ended(session, run)
    events.append(session, run_id, EventKind.STATE, actor=by, data=event)
    return run


def locked(session: WriteSession, run_id: str) -> RunRow:
    """The run as it is now, held against changes by others until the transaction ends."""
    # Not a lock of the key: adding an event of the run must not wait for it, or two writers wait for each other.
    lock = {"key_share": True}
    if (run := session.get(RunRow, run_id, with_for_update=lock, populate_existing=True)) is None:
        raise NotFound(f"There is no run {run_id}.", remedy="List the runs with GET /v1/runs.")
    return run
