"""The event log as it goes out."""

from datetime import datetime
from typing import Any

from audit_service.border.schemas import Answer
from audit_service.domain.lifecycle import EventKind


class LogEntry(Answer):
    """An entry of the organisation's event log."""

    number: int
    """Place in the organisation's chain, from 1."""
    run_id: str | None
    kind: EventKind
    actor: str
    """Who: "user:<e-mail>", "token:<name>" or "worker:<name>"."""
    address: str | None
    """From where."""
    token_id: str | None
    """With which token."""
    data: dict[str, Any]
    at: datetime
    previous: str
    """SHA-256 of the entry before; empty for the first."""
    digest: str
    """SHA-256 of this entry's canonical JSON with `previous`, as the export holds it."""


class LogCheck(Answer):
    """Whether the log is the one that was written."""

    entries: int
    digest: str
    """Of the last entry. Keep it elsewhere: a log that was cut short holds too, but ends with another."""
    broken_at: int | None
    """The number of the first entry that does not hold."""
    why: str | None
