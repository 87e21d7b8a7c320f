"""Rendered reports: one view in its formats."""

from sqlalchemy import ForeignKey, Integer, LargeBinary, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from audit_service.db.base import Base, Id, Identified, Owned


class ReportRow(Identified, Owned, Base):
    __tablename__ = "reports"
    __table_args__ = (UniqueConstraint("run_id", "language", "edition"),)

    run_id: Mapped[str] = mapped_column(Id, ForeignKey("runs.id"))
    language: Mapped[str] = mapped_column(Text)
    """BCP 47: "en" or "zh-Hant"."""
    edition: Mapped[int] = mapped_column(Integer, default=1)
    """A new one tells of decisions that came after the one before; none is ever changed."""
    pdf: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    view: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    """Canonical JSON of the view object that PDF and HTML are rendered from."""
    html: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    docx: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    digest: Mapped[str] = mapped_column(Text)
    """SHA-256 of the PDF."""
