"""Runs: one execution of a plan. The state changes through ``audits.lifecycle.move`` only."""

from datetime import datetime

from sqlalchemy import ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from audit_service.db.base import Base, Id, Identified, Owned, Timestamp, choice
from audit_service.db.tables.plans import PlanRow
from audit_service.domain.lifecycle import RunState


class RunRow(Identified, Owned, Base):
    __tablename__ = "runs"

    plan_id: Mapped[str] = mapped_column(Id, ForeignKey("plans.id"), index=True)
    state: Mapped[RunState] = mapped_column(choice(RunState), default=RunState.QUEUED, index=True)
    reason: Mapped[str | None] = mapped_column(Text)
    """Why it is in this state, where that is not plain: what failed and what to do."""
    started_at: Mapped[datetime | None] = mapped_column(Timestamp)
    ended_at: Mapped[datetime | None] = mapped_column(Timestamp)
    person_id: Mapped[str | None] = mapped_column(Id, ForeignKey("users.id"))
    """Who answers for its start; none where nobody asked, as for a schedule's."""

    plan: Mapped[PlanRow] = relationship()
