"""Behaviors and their versions; a version is never changed."""

from sqlalchemy import ForeignKey, Integer, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from audit_service.db.base import Base, Id, Identified, Owned, Value
from audit_service.domain.behaviors import Behavior


class BehaviorRow(Identified, Owned, Base):
    __tablename__ = "behaviors"
    __table_args__ = (UniqueConstraint("organisation_id", "name"),)

    name: Mapped[str] = mapped_column(Text)


class BehaviorVersionRow(Identified, Owned, Base):
    __tablename__ = "behavior_versions"
    __table_args__ = (UniqueConstraint("behavior_id", "number"), UniqueConstraint("behavior_id", "digest"))

    behavior_id: Mapped[str] = mapped_column(Id, ForeignKey("behaviors.id"))
    number: Mapped[int] = mapped_column(Integer)
    content: Mapped[Behavior] = mapped_column(Value(Behavior))
    digest: Mapped[str] = mapped_column(Text)

    behavior: Mapped[BehaviorRow] = relationship(lazy="joined", innerjoin=True)

    @property
    def name(self) -> str:
        return self.behavior.name
