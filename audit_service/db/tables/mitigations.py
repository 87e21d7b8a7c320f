"""Measures against findings. What they changed stands with the repetition that was run with them."""

from sqlalchemy import ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from audit_service.db.base import Base, Id, Identified, Owned, Value
from audit_service.db.tables.revalidations import RevalidationRow
from audit_service.domain.drift import Drift
from audit_service.domain.results import Result


class MitigationRow(Identified, Owned, Base):
    __tablename__ = "mitigations"

    revalidation_id: Mapped[str] = mapped_column(Id, ForeignKey("revalidations.id"), index=True)
    """The run without the measure, repeated with it."""
    title: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    fitted_on: Mapped[str] = mapped_column(Text)
    side_effects: Mapped[tuple[Result, ...]] = mapped_column(Value(tuple[Result, ...]))
    """What was measured elsewhere, such as accuracy on neutral text."""
    recorded_by: Mapped[str] = mapped_column(Text)

    revalidation: Mapped[RevalidationRow] = relationship(lazy="joined", innerjoin=True)

    @property
    def run_id(self) -> str:
        return self.revalidation.run_id

    @property
    def earlier_run_id(self) -> str:
        return self.revalidation.earlier_run_id

    @property
    def drift(self) -> Drift | None:
        return self.revalidation.drift
