"""When which audit is due again, and every time that came."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from audit_service.db.base import Base, Id, Identified, Owned, Timestamp, Value, choice
from audit_service.db.tables.behaviors import BehaviorRow
from audit_service.db.tables.models import ModelRow
from audit_service.db.tables.runs import RunRow
from audit_service.domain.schedules import OccurrenceKind, OccurrenceState, Rule


class ScheduleRow(Identified, Owned, Base):
    __tablename__ = "schedules"
    __table_args__ = (
        Index(
            "uq_schedules_organisation_id_name",
            "organisation_id",
            "name",
            unique=True,
            postgresql_where="retired_at IS NULL",
        ),
        CheckConstraint("rule IS NOT NULL OR on_new_version", name="something_makes_it_due"),
    )

    name: Mapped[str] = mapped_column(Text)
    model_id: Mapped[str] = mapped_column(Id, ForeignKey("models.id"))
    behavior_id: Mapped[str] = mapped_column(Id, ForeignKey("behaviors.id"))
    rule: Mapped[Rule | None] = mapped_column(Value(Rule))
    on_new_version: Mapped[bool]
    grace_hours: Mapped[int] = mapped_column(Integer)
    """So long after it is due, what is not completed is overdue."""
    paused: Mapped[bool] = mapped_column(default=False)
    retired_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """Nothing comes of it since then; it stays for what came of it before."""
    cursor: Mapped[datetime] = mapped_column(Timestamp)
    """Every time of the rule up to here was looked at."""
    watching_since: Mapped[datetime] = mapped_column(Timestamp)
    """Versions that were registered later are new."""
    overdue_told: Mapped[datetime | None] = mapped_column(Timestamp)
    """The due time whose delay was last made known."""
    created_by: Mapped[str] = mapped_column(Text)

    model: Mapped[ModelRow] = relationship(lazy="joined", innerjoin=True)
    behavior: Mapped[BehaviorRow] = relationship(lazy="joined", innerjoin=True)


class OccurrenceRow(Identified, Owned, Base):
    """A time that came, or a new version: each has one row and at most one run, however many clocks look at it."""

    __tablename__ = "occurrences"
    __table_args__ = (UniqueConstraint("schedule_id", "key"),)

    schedule_id: Mapped[str] = mapped_column(Id, ForeignKey("schedules.id"))
    key: Mapped[str] = mapped_column(Text)
    """The nominal time, or the id of the model version."""
    kind: Mapped[OccurrenceKind] = mapped_column(choice(OccurrenceKind))
    nominal_at: Mapped[datetime] = mapped_column(Timestamp)
    due_at: Mapped[datetime] = mapped_column(Timestamp)
    collapsed: Mapped[int] = mapped_column(Integer, default=0)
    """Missed times before it that it stands for."""
    state: Mapped[OccurrenceState] = mapped_column(choice(OccurrenceState), default=OccurrenceState.DUE)
    reason: Mapped[str | None] = mapped_column(Text)
    asked_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When a worker was last asked to start its run."""
    model_version_id: Mapped[str | None] = mapped_column(Id, ForeignKey("model_versions.id"))
    """The version that came; none for a time, which takes the newest."""
    run_id: Mapped[str | None] = mapped_column(Id, ForeignKey("runs.id"), unique=True)

    schedule: Mapped[ScheduleRow] = relationship()
    run: Mapped[RunRow | None] = relationship()
