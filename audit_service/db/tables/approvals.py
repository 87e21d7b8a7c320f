"""Records that were put before a reviewer, and what was decided on them. Postgres lets nobody change a decision."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from audit_service.db.base import Base, Id, Identified, Owned, Timestamp, Value, choice
from audit_service.domain.approvals import Acceptance, Decision, Record


class ApprovalRow(Identified, Owned, Base):
    __tablename__ = "approvals"
    __table_args__ = (
        CheckConstraint("reviewer_id <> ALL (prepared_by)", name="four_eyes"),
        CheckConstraint("(state = 'submitted') = (reviewer_id IS NULL)", name="decided_by_somebody"),
    )

    record: Mapped[Record] = mapped_column(choice(Record))
    record_digest: Mapped[str] = mapped_column(Text)
    """What both people signed for."""
    plan_id: Mapped[str] = mapped_column(Id, ForeignKey("plans.id"), index=True)
    run_id: Mapped[str | None] = mapped_column(Id, ForeignKey("runs.id"))
    """None for the plan itself, which is decided on for all its runs."""
    acceptance: Mapped[Acceptance | None] = mapped_column(Value(Acceptance))
    """The exception or accepted risk, where that is the record."""
    state: Mapped[Decision] = mapped_column(choice(Decision), default=Decision.SUBMITTED)
    """Changes through ``approvals.service.decide`` only."""
    preparer_id: Mapped[str] = mapped_column(Id, ForeignKey("users.id"))
    preparer: Mapped[str] = mapped_column(Text)
    preparer_role: Mapped[str] = mapped_column(Text)
    prepared_by: Mapped[list[str]] = mapped_column(ARRAY(Id))
    """Who submitted it, and who answers for its plan and its run: none of them is its reviewer."""
    comment: Mapped[str] = mapped_column(Text)
    reviewer_id: Mapped[str | None] = mapped_column(Id, ForeignKey("users.id"))
    reviewer: Mapped[str | None] = mapped_column(Text)
    reviewer_role: Mapped[str | None] = mapped_column(Text)
    decision_comment: Mapped[str | None] = mapped_column(Text)
    decided_at: Mapped[datetime | None] = mapped_column(Timestamp)
