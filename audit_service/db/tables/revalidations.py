"""Which run repeats an earlier one on another version."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from audit_service.db.base import Base, Id, Identified, Owned, Value
from audit_service.db.tables.runs import RunRow
from audit_service.domain.drift import Drift


class RevalidationRow(Identified, Owned, Base):
    """A run that repeats an earlier one's plan."""

    __tablename__ = "revalidations"

    run_id: Mapped[str] = mapped_column(Id, ForeignKey("runs.id"), unique=True)
    earlier_run_id: Mapped[str] = mapped_column(Id, ForeignKey("runs.id"), index=True)
    drift: Mapped[Drift | None] = mapped_column(Value(Drift))
    """What changed; none before the run is judged."""

    run: Mapped[RunRow] = relationship(foreign_keys=[run_id])
    earlier_run: Mapped[RunRow] = relationship(foreign_keys=[earlier_run_id])
