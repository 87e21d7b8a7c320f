"""The units of queue work of a run."""

from datetime import datetime

from sqlalchemy import Float, ForeignKey, Integer, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from audit_service.db.base import Base, Id, Owned, Timestamp, choice
from audit_service.domain.lifecycle import ShardState
from audit_service.domain.plan import Corruption, Direction, ShardKind


class ShardRow(Owned, Base):
    __tablename__ = "shards"

    run_id: Mapped[str] = mapped_column(Id, ForeignKey("runs.id"), primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    ordinal: Mapped[int] = mapped_column(Integer)
    """Place in the plan's order, from 0."""
    kind: Mapped[ShardKind] = mapped_column(choice(ShardKind))
    form: Mapped[str] = mapped_column(Text)
    direction: Mapped[Direction | None] = mapped_column(choice(Direction))
    corruption: Mapped[Corruption | None] = mapped_column(choice(Corruption))
    sites: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list)
    """Of a joint shard: the sites that are exchanged two by two."""
    pair_ids: Mapped[list[str]] = mapped_column(ARRAY(Text))
    state: Mapped[ShardState] = mapped_column(choice(ShardState), default=ShardState.PENDING)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    """Times a worker took it."""
    done: Mapped[int] = mapped_column(Integer, default=0)
    total: Mapped[int] = mapped_column(Integer)
    """Units of work that take about as long as each other."""
    running_effect: Mapped[float | None] = mapped_column(Float)
    """Mean paired gap (decisions) or largest mean |effect| (effects) so far, in nats; for the progress line only."""
    worker: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    started_at: Mapped[datetime | None] = mapped_column(Timestamp)
    heartbeat_at: Mapped[datetime | None] = mapped_column(Timestamp)
    ended_at: Mapped[datetime | None] = mapped_column(Timestamp)
