"""Rendered reports: the PDF and the view it was made from."""

from sqlalchemy import ForeignKey, LargeBinary, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from audit_service.db.base import Base, Id, Identified


class ReportRow(Identified, Base):
    __tablename__ = "reports"
    __table_args__ = (UniqueConstraint("run_id", "language"),)

    run_id: Mapped[str] = mapped_column(Id, ForeignKey("runs.id"))
    language: Mapped[str] = mapped_column(Text)
    """BCP 47: "en" or "zh-Hant"."""
    pdf: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    view: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    """Canonical JSON of the view object that PDF and HTML are rendered from."""
    digest: Mapped[str] = mapped_column(Text)
    """SHA-256 of the PDF."""
