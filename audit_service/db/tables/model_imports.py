"""Model versions of another registry that are to be fetched and registered here."""

from datetime import datetime

from sqlalchemy import ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from audit_service.db.base import Base, Id, Identified, Owned, Timestamp, choice
from audit_service.domain.lifecycle import ImportState


class ImportRow(Identified, Owned, Base):
    __tablename__ = "model_imports"
    __table_args__ = (UniqueConstraint("organisation_id", "name", "version"),)

    name: Mapped[str] = mapped_column(Text)
    """The registered model's name there, and the model's name here."""
    version: Mapped[str] = mapped_column(Text)
    dtype: Mapped[str] = mapped_column(Text)
    asked_by: Mapped[str] = mapped_column(Text)
    asked_at: Mapped[datetime] = mapped_column(Timestamp)
    """When a worker was last asked to fetch it."""
    state: Mapped[ImportState] = mapped_column(choice(ImportState), default=ImportState.QUEUED)
    reason: Mapped[str | None] = mapped_column(Text)
    model_version_id: Mapped[str | None] = mapped_column(Id, ForeignKey("model_versions.id"))
