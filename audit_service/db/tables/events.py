"""What happened to a run, in order; rows are only ever added."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from audit_service.db.base import Base, Id, Owned, Timestamp, choice
from audit_service.domain.lifecycle import EventKind


class EventRow(Owned, Base):
    __tablename__ = "events"
    __table_args__ = (Index(None, "run_id", "seq"),)

    seq: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    """The id of the server-sent event: a client that comes back asks for what lies after it."""
    run_id: Mapped[str] = mapped_column(Id, ForeignKey("runs.id"))
    kind: Mapped[EventKind] = mapped_column(choice(EventKind))
    actor: Mapped[str] = mapped_column(Text)
    """Who caused it: a user, "worker:<name>"."""
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)
    at: Mapped[datetime] = mapped_column(Timestamp, server_default=func.clock_timestamp())
