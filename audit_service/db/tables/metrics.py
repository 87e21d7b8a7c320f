"""Metrics: how the model's output becomes a number; versioned by name. Those built in are of no organisation."""

from sqlalchemy import Integer, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from audit_service.db.base import Base, Identified, Offered, Value
from audit_service.domain.readings import MetricDefinition


class MetricRow(Identified, Offered, Base):
    __tablename__ = "metrics"
    __table_args__ = (UniqueConstraint("organisation_id", "name", "version", postgresql_nulls_not_distinct=True),)

    name: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(Integer)
    content: Mapped[MetricDefinition] = mapped_column(Value(MetricDefinition))
    digest: Mapped[str] = mapped_column(Text)
