"""The measured cells of each shard, written once."""

from sqlalchemy import ForeignKeyConstraint, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from audit_service.db.base import Base, Id, Owned, Value
from audit_service.domain.trace import Measured


class TraceRow(Owned, Base):
    __tablename__ = "traces"
    __table_args__ = (ForeignKeyConstraint(["run_id", "shard_key"], ["shards.run_id", "shards.key"]),)

    run_id: Mapped[str] = mapped_column(Id, primary_key=True)
    shard_key: Mapped[str] = mapped_column(Text, primary_key=True)
    payload: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    """safetensors; see domain.trace."""
    digest: Mapped[str] = mapped_column(Text)
    """SHA-256 of the payload."""
    measured: Mapped[Measured] = mapped_column(Value(Measured))
