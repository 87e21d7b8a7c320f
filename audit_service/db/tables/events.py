"""The event log: who did what, when and from where. Rows are only ever added, and the database sees to it."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Mapped, mapped_column

from audit_service.db.base import Base, Id, Owned, Timestamp, choice
from audit_service.domain.lifecycle import EventKind


class EventRow(Owned, Base):
    __tablename__ = "events"
    __table_args__ = (
        Index(None, "run_id", "seq"),
        UniqueConstraint("organisation_id", "number", postgresql_nulls_not_distinct=True),
    )

    seq: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    """The id of the server-sent event: a client that comes back asks for what lies after it."""
    organisation_id: Mapped[str | None] = mapped_column(  # type: ignore[assignment]  # wider than others' rows
        Id, ForeignKey("organisations.id"), server_default=text("audit_organisation()")
    )
    """None for what the service cannot ascribe, such as the sign-in of nobody it knows."""
    number: Mapped[int] = mapped_column(BigInteger)
    """Place in the organisation's chain, from 1."""
    run_id: Mapped[str | None] = mapped_column(Id, ForeignKey("runs.id"))
    kind: Mapped[EventKind] = mapped_column(choice(EventKind))
    actor: Mapped[str] = mapped_column(Text)
    """Who caused it: "user:<e-mail>", "token:<name>", "worker:<name>"."""
    address: Mapped[str | None] = mapped_column(Text)
    """Where the request came from."""
    token_id: Mapped[str | None] = mapped_column(Id)
    """The token that the request carried."""
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    """Not JSONB, which would give numbers back in another form than they were hashed in."""
    at: Mapped[datetime] = mapped_column(Timestamp)
    previous: Mapped[str] = mapped_column(Text)
    """Digest of the organisation's entry before; empty for the first."""
    digest: Mapped[str] = mapped_column(Text)
    """See ``domain.chain``."""
