"""The event log: adding to it, reading on from a place, and checking its chain."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, func, select

from audit_service.db import locks
from audit_service.db.handles import ReadSession, WriteSession, whom
from audit_service.db.queries import narrowed
from audit_service.db.tables import EventRow
from audit_service.domain.chain import Break, Entry, first_break, sealed
from audit_service.domain.lifecycle import EventKind

AT_ONCE = 500
"""Events read at a time."""


def append(session: WriteSession, run_id: str | None, kind: EventKind, *, actor: str, data: dict[str, Any]) -> EventRow:
    """Add an event to the organisation's chain. Append last: its other writers wait here until this transaction ends.

    The wait makes the order of numbers the order of commits, so that a reader who has seen one number never
    misses a lower one, and gives each entry the digest of the one before.
    """
    acting = whom(session)
    locks.hold(session, f"events/{acting.organisation_id}")
    last, at = _last(session, acting.organisation_id)
    row = EventRow(
        organisation_id=acting.organisation_id,
        number=last.number + 1 if last else 1,
        run_id=run_id,
        kind=kind,
        actor=actor,
        address=acting.address,
        token_id=acting.token_id,
        data=data,
        at=at,
        previous=last.digest if last else "",
    )
    row.digest = sealed(said(row), previous=row.previous)["digest"]
    session.add(row)
    session.flush()
    return row


def _last(session: ReadSession, organisation_id: str | None) -> tuple[EventRow | None, datetime]:
    """The organisation's last event and the present time, by the database's clock."""
    query = select(EventRow).where(_of(organisation_id)).order_by(EventRow.number.desc()).limit(1)
    now = session.execute(select(func.clock_timestamp())).scalar_one()
    return session.scalars(query).one_or_none(), now


def _of(organisation_id: str | None) -> Any:  # noqa: ANN401 - a condition
    return EventRow.organisation_id.is_not_distinct_from(organisation_id)


def said(row: EventRow) -> dict[str, Any]:
    """What the entry's digest is made over, besides the digest before it."""
    return {
        "number": row.number,
        "organisation": row.organisation_id,
        "run": row.run_id,
        "kind": row.kind.value,
        "actor": row.actor,
        "address": row.address,
        "token": row.token_id,
        "data": row.data,
        "at": row.at.astimezone(UTC).isoformat(),
    }


def entry(row: EventRow) -> Entry:
    """The entry as it is exported: enough to check the chain."""
    return said(row) | {"previous": row.previous, "digest": row.digest}


def after(session: ReadSession, run_id: str, *, seq: int, limit: int = AT_ONCE) -> list[EventRow]:
    """The events of the run that follow ``seq``, oldest first."""
    query = select(EventRow).where(EventRow.run_id == run_id, EventRow.seq > seq).order_by(EventRow.seq).limit(limit)
    return list(session.scalars(query))


def events(*, kind: EventKind | None = None, actor: str | None = None, run_id: str | None = None) -> Select[EventRow]:
    return narrowed(select(EventRow), {EventRow.kind: kind, EventRow.actor: actor, EventRow.run_id: run_id})


def chain(session: ReadSession, organisation_id: str | None) -> Iterator[EventRow]:
    """The organisation's events in their order, some at a time."""
    number = 0
    while True:
        query = select(EventRow).where(_of(organisation_id), EventRow.number > number).order_by(EventRow.number)
        rows = session.scalars(query.limit(AT_ONCE)).all()
        yield from rows
        if len(rows) < AT_ONCE:
            return
        number = rows[-1].number
        session.expunge_all()


def broken(session: ReadSession, organisation_id: str | None) -> Break | None:
    """The first entry of the organisation's log that does not hold."""
    return first_break(entry(row) for row in chain(session, organisation_id))


def length(session: ReadSession, organisation_id: str | None) -> tuple[int, str]:
    """How many entries the organisation's log has, and the digest of the last."""
    query = select(EventRow.number, EventRow.digest).where(_of(organisation_id)).order_by(EventRow.number.desc())
    last = session.execute(query.limit(1)).one_or_none()
    return (last[0], last[1]) if last else (0, "")
