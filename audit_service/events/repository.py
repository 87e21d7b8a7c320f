"""The event table: adding to it, and reading on from a place."""

from typing import Any

from sqlalchemy import select

from audit_service.db import locks
from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.tables import EventRow
from audit_service.domain.lifecycle import EventKind

AT_ONCE = 500
"""Events read at a time."""


def append(session: WriteSession, run_id: str, kind: EventKind, *, actor: str, data: dict[str, Any]) -> None:
    """Add an event to the run. Append last: writers to one run wait here until this transaction ends.

    The wait makes the order of numbers the order of commits, so that a reader who has seen one number never
    misses a lower one.
    """
    locks.hold(session, run_id)
    session.add(EventRow(run_id=run_id, kind=kind, actor=actor, data=data))
    session.flush()


def after(session: ReadSession, run_id: str, *, seq: int, limit: int = AT_ONCE) -> list[EventRow]:
    """The events of the run that follow ``seq``, oldest first."""
    query = select(EventRow).where(EventRow.run_id == run_id, EventRow.seq > seq).order_by(EventRow.seq).limit(limit)
    return list(session.scalars(query))
