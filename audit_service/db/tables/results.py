"""Every number that may be printed: a row with an id that the report names."""

from sqlalchemy import BigInteger, Float, ForeignKey, Identity, Integer, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from audit_service.db.base import Base, Id, Owned, Value, choice
from audit_service.domain.results import Outcome, Result, Sentence


class ResultRow(Owned, Base):
    __tablename__ = "results"
    __table_args__ = (UniqueConstraint("run_id", "key"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    run_id: Mapped[str] = mapped_column(Id, ForeignKey("runs.id"))
    key: Mapped[str] = mapped_column(Text)
    outcome: Mapped[Outcome] = mapped_column(choice(Outcome))
    value: Mapped[float | None] = mapped_column(Float(53))
    low: Mapped[float | None] = mapped_column(Float(53))
    high: Mapped[float | None] = mapped_column(Float(53))
    unit: Mapped[str] = mapped_column(Text)
    n: Mapped[int | None] = mapped_column(Integer)
    p_value: Mapped[float | None] = mapped_column(Float(53))
    method: Mapped[str] = mapped_column(Text)
    reason: Mapped[Sentence | None] = mapped_column(Value(Sentence))

    @classmethod
    def of(cls, run_id: str, result: Result) -> "ResultRow":
        return cls(run_id=run_id, **{name: getattr(result, name) for name in Result.model_fields})
