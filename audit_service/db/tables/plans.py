"""Frozen plans."""

from sqlalchemy import Boolean, ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, foreign, mapped_column, relationship

from audit_service.db.base import Base, Id, Identified, Owned, Value
from audit_service.db.tables.calibrations import CalibrationRow
from audit_service.domain.cost import Cost
from audit_service.domain.forecast import Forecast
from audit_service.domain.plan import Plan
from audit_service.domain.results import LintFinding, Sentence


class PlanRow(Identified, Owned, Base):
    __tablename__ = "plans"
    __table_args__ = (UniqueConstraint("organisation_id", "digest"),)

    digest: Mapped[str] = mapped_column(Text)
    terms_digest: Mapped[str] = mapped_column(Text, index=True)
    """Digest of the plan without its history: the same terms are the same plan, whenever they are sent, unless another
    plan was run in between."""
    content: Mapped[Plan] = mapped_column(Value(Plan))
    cost: Mapped[Cost] = mapped_column(Value(Cost))
    protocol: Mapped[tuple[LintFinding, ...]] = mapped_column(Value(tuple[LintFinding, ...]))
    """Rules of the protocol that the plan does not keep."""
    power: Mapped[tuple[Sentence, ...]] = mapped_column(Value(tuple[Sentence, ...]))
    """What the design can detect, as far as it was known when the plan was fixed."""
    exploratory: Mapped[bool] = mapped_column(Boolean)
    predecessor: Mapped[str | None] = mapped_column(Text)
    """Digest of the plan over this model and behavior that was run before this one."""
    model_version_id: Mapped[str] = mapped_column(Id, ForeignKey("model_versions.id"))
    behavior_version_id: Mapped[str] = mapped_column(Id, ForeignKey("behavior_versions.id"))
    pair_set_id: Mapped[str] = mapped_column(Id, ForeignKey("pair_sets.id"))
    person_id: Mapped[str | None] = mapped_column(Id, ForeignKey("users.id"))
    """Who answers for it; none where nobody asked, as for a schedule's."""

    calibrations: Mapped[list[CalibrationRow]] = relationship(
        primaryjoin=lambda: PlanRow.model_version_id == foreign(CalibrationRow.model_version_id),
        order_by=CalibrationRow.id,
        viewonly=True,
    )

    @property
    def forecasts(self) -> tuple[Forecast, ...]:
        """What the plan takes on each kind of worker that has run the model; none before the first has."""
        return self.cost.forecasts(row.content for row in self.calibrations)
