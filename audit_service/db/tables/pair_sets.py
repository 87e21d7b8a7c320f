"""Pair sets, their pairs as rows (a shard reads only its own), and previews against a model."""

from sqlalchemy import ForeignKey, Integer, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from audit_service.db.base import Base, Id, Identified, Owned, Value, choice
from audit_service.domain.lifecycle import PreviewState
from audit_service.domain.pairs import Pair
from audit_service.domain.preview import Preview
from audit_service.domain.provenance import Provenance


class PairSetRow(Identified, Owned, Base):
    __tablename__ = "pair_sets"
    __table_args__ = (UniqueConstraint("organisation_id", "digest"),)

    name: Mapped[str] = mapped_column(Text, index=True)
    digest: Mapped[str] = mapped_column(Text)
    count: Mapped[int] = mapped_column(Integer)
    behavior_version_id: Mapped[str | None] = mapped_column(Id, ForeignKey("behavior_versions.id"))
    """The behavior it was generated from; none for an upload."""
    provenance: Mapped[Provenance | None] = mapped_column(Value(Provenance))
    """Where imported pairs came from."""


class PairRow(Owned, Base):
    __tablename__ = "pairs"
    __table_args__ = (UniqueConstraint("pair_set_id", "pair_id"),)

    pair_set_id: Mapped[str] = mapped_column(Id, ForeignKey("pair_sets.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(Integer, primary_key=True)
    """Place in the set, from 0: the digest depends on the order."""
    pair_id: Mapped[str] = mapped_column(Text)
    content: Mapped[Pair] = mapped_column(Value(Pair))


class PreviewRow(Identified, Owned, Base):
    """Alignment and label coverage of a pair set on one model version, computed by a worker."""

    __tablename__ = "previews"
    __table_args__ = (UniqueConstraint("pair_set_id", "model_version_id", "behavior_version_id"),)

    pair_set_id: Mapped[str] = mapped_column(Id, ForeignKey("pair_sets.id", ondelete="CASCADE"))
    model_version_id: Mapped[str] = mapped_column(Id, ForeignKey("model_versions.id"))
    behavior_version_id: Mapped[str] = mapped_column(Id, ForeignKey("behavior_versions.id"))
    state: Mapped[PreviewState] = mapped_column(choice(PreviewState), default=PreviewState.QUEUED)
    reason: Mapped[str | None] = mapped_column(Text)
    """Why it failed, with the remedy."""
    content: Mapped[Preview | None] = mapped_column(Value(Preview))
