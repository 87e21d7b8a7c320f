"""Who wants to be told of what, and what is to be told: rows of the outbox come with what they tell of."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, Integer, Text, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column, relationship

from audit_service.db.base import Base, Id, Identified, Owned, Timestamp, choice
from audit_service.domain.notifications import MessageState, TargetKind


class TargetRow(Identified, Owned, Base):
    __tablename__ = "notification_targets"

    kind: Mapped[TargetKind] = mapped_column(choice(TargetKind))
    address: Mapped[str] = mapped_column(Text)
    """URL or e-mail address."""
    topics: Mapped[list[str]] = mapped_column(ARRAY(Text))
    secret: Mapped[str | None] = mapped_column(Text, deferred=True)
    """What webhooks are signed with. Signing takes the secret itself, so no digest would do."""
    created_by: Mapped[str] = mapped_column(Text)
    removed_at: Mapped[datetime | None] = mapped_column(Timestamp)


class MessageRow(Identified, Owned, Base):
    """The id goes out with each attempt, so that who gets it twice can know."""

    __tablename__ = "notifications"
    __table_args__ = (Index(None, "next_at", postgresql_where="state = 'pending'"),)

    target_id: Mapped[str] = mapped_column(Id, ForeignKey("notification_targets.id"))
    topic: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    """One line for a person."""
    body: Mapped[str] = mapped_column(Text)
    """JSON, as it is signed and sent."""
    state: Mapped[MessageState] = mapped_column(choice(MessageState), default=MessageState.PENDING)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_at: Mapped[datetime] = mapped_column(Timestamp, server_default=func.now())
    error: Mapped[str | None] = mapped_column(Text)
    """Why the last attempt failed."""
    delivered_at: Mapped[datetime | None] = mapped_column(Timestamp)

    target: Mapped[TargetRow] = relationship(lazy="joined", innerjoin=True)
