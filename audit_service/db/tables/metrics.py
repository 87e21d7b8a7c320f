"""Metrics: how the model's output becomes a number; versioned by name."""

from sqlalchemy import Integer, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from audit_service.db.base import Base, Identified, Value
from audit_service.domain.readings import MetricDefinition


class MetricRow(Identified, Base):
    __tablename__ = "metrics"
    __table_args__ = (UniqueConstraint("name", "version"),)

    name: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(Integer)
    content: Mapped[MetricDefinition] = mapped_column(Value(MetricDefinition))
    digest: Mapped[str] = mapped_column(Text)
