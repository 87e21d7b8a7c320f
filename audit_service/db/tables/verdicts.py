"""What the judge said about a run."""

from sqlalchemy import ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from audit_service.db.base import Base, Id, Identified, Owned, Value, choice
from audit_service.domain.results import Judgement, VerdictValue


class VerdictRow(Identified, Owned, Base):
    __tablename__ = "verdicts"

    run_id: Mapped[str] = mapped_column(Id, ForeignKey("runs.id"), unique=True)
    value: Mapped[VerdictValue] = mapped_column(choice(VerdictValue))
    judgement: Mapped[Judgement] = mapped_column(Value(Judgement))
    digest: Mapped[str] = mapped_column(Text)
    """SHA-256 of the judgement's canonical JSON."""
