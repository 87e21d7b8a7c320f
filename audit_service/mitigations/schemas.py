"""Mitigations as they come in and go out."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from audit_service.border.schemas import Answer, Name, Said
from audit_service.domain.drift import Drift
from audit_service.domain.manifest import Frozen
from audit_service.domain.results import Result

Number = Annotated[float, Field(allow_inf_nan=False)]
Unit = Annotated[str, StringConstraints(pattern=r"^(nats|percentage points|share|ratio|count|1)$")]


class SideEffect(Frozen):
    """What else the measure changed, as it was measured outside this service: after minus before."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_.]{1,80}$")] = Field(examples=["neutral.accuracy_change"])
    value: Number
    low: Number | None = None
    high: Number | None = None
    """Bounds of the interval; both or none."""
    unit: Unit
    n: int | None = Field(default=None, ge=1, le=2**31 - 1)
    """Independent units behind the value."""
    p_value: float | None = Field(default=None, ge=0, le=1)
    method: Said
    """Estimator, interval, data."""

    @model_validator(mode="after")
    def _bounds(self) -> "SideEffect":
        if (self.low is None) != (self.high is None):
            raise ValueError("give both bounds of the interval, or none")
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            raise ValueError("the value must lie within its interval")
        return self

    def as_result(self) -> Result:
        return Result(key=self.name, **self.model_dump(exclude={"name"}))


class MitigationCreate(Frozen):
    """A measure that a run was repeated with."""

    title: Name = Field(examples=["Steering vector at layer 12"])
    description: Said
    """What was changed, and where."""
    fitted_on: Said
    """The data that it was fitted or chosen on: they must not be the pairs that judge it."""
    side_effects: tuple[SideEffect, ...] = Field(default=(), max_length=50)
    """The service itself measures what became of the reference group's decisions."""


class Mitigation(Answer):
    """A measure, and what changed with it pair by pair."""

    id: str
    run_id: str
    """The run with the measure."""
    earlier_run_id: str
    """The same plan without it."""
    title: str
    description: str
    fitted_on: str
    side_effects: tuple[Result, ...]
    drift: Drift | None
    recorded_by: str
    created_at: datetime
