"""Where model versions are in use."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from audit_service.db.base import Base, Id, Identified, Owned, Timestamp
from audit_service.db.tables.models import ModelVersionRow


class DeploymentRow(Identified, Owned, Base):
    __tablename__ = "deployments"
    __table_args__ = (CheckConstraint("ended_at >= since", name="ends_after_it_began"),)

    model_version_id: Mapped[str] = mapped_column(Id, ForeignKey("model_versions.id"), index=True)
    place: Mapped[str] = mapped_column(Text)
    since: Mapped[datetime] = mapped_column(Timestamp)
    ended_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """None: it is in use there now."""
    recorded_by: Mapped[str] = mapped_column(Text)

    of: Mapped[ModelVersionRow] = relationship(lazy="joined", innerjoin=True)

    @property
    def model(self) -> str:
        return self.of.name

    @property
    def version(self) -> str:
        return self.of.version
