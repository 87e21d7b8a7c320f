"""Evidence bundles as they were made, in parts: neither the worker nor the API holds a whole one for a download."""

from sqlalchemy import BigInteger, ForeignKey, Integer, LargeBinary, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from audit_service.db.base import Base, Id, Identified, Owned


class BundleRow(Identified, Owned, Base):
    __tablename__ = "bundles"
    __table_args__ = (UniqueConstraint("run_id", "edition"),)

    run_id: Mapped[str] = mapped_column(Id, ForeignKey("runs.id"))
    edition: Mapped[int] = mapped_column(Integer)
    """The edition of the reports that it holds."""
    size: Mapped[int] = mapped_column(BigInteger)
    """Bytes."""
    digest: Mapped[str] = mapped_column(Text)
    """SHA-256 of the whole file."""
    evidence_digest: Mapped[str] = mapped_column(Text)
    """SHA-256 of the evidence without its earlier editions: the same records make no new edition."""


class BundlePartRow(Owned, Base):
    __tablename__ = "bundle_parts"

    bundle_id: Mapped[str] = mapped_column(Id, ForeignKey("bundles.id"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(Integer, primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
