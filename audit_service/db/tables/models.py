"""Models and their exact versions."""

from sqlalchemy import ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from audit_service.db.base import Base, Id, Identified, Owned, Value
from audit_service.domain.plan import ModelIdentity


class ModelRow(Identified, Owned, Base):
    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("organisation_id", "name"),)

    name: Mapped[str] = mapped_column(Text)


class ModelVersionRow(Identified, Owned, Base):
    __tablename__ = "model_versions"
    __table_args__ = (UniqueConstraint("model_id", "version"),)

    model_id: Mapped[str] = mapped_column(Id, ForeignKey("models.id"))
    version: Mapped[str] = mapped_column(Text)
    path: Mapped[str] = mapped_column(Text)
    """Folder on the machine of the workers and of the service."""
    hub_name: Mapped[str | None] = mapped_column(Text)
    hub_revision: Mapped[str | None] = mapped_column(Text)
    """The commit that was fetched, for a version that came from a hub."""
    digest: Mapped[str] = mapped_column(Text, index=True)
    identity: Mapped[ModelIdentity] = mapped_column(Value(ModelIdentity))

    model: Mapped[ModelRow] = relationship(lazy="joined", innerjoin=True)

    @property
    def name(self) -> str:
        return self.model.name
