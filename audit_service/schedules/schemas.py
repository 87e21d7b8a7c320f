"""Schedules, their times and the calendar as they come in and go out."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import ConfigDict, Field, model_validator

from audit_service.border.schemas import Answer, Name
from audit_service.domain.manifest import Frozen
from audit_service.domain.schedules import OccurrenceKind, OccurrenceState, Rule


class ScheduleCreate(Frozen):
    """When the last accepted audit of a behavior on a model is to be repeated."""

    name: Name = Field(examples=["loan denial, quarterly"])
    model: Name = Field(examples=["credit-assistant"])
    """The model's name."""
    behavior: Name = Field(examples=["loan-denial"])
    """The behavior's name."""
    rule: Rule | None = None
    """Due at these times, on the newest version of the model."""
    on_new_version: bool = True
    """Due whenever a version of the model is registered."""
    grace_hours: int = Field(default=24, ge=0, le=24 * 366)
    """What is not completed so long after it was due is overdue."""

    @model_validator(mode="after")
    def _something(self) -> "ScheduleCreate":
        if self.rule is None and not self.on_new_version:
            raise ValueError("give a rule, or on_new_version, or both")
        return self


def _without_defaults(schema: dict[str, Any]) -> None:
    """What is left out of a change stays as it is: no value stands for it."""
    for field in schema["properties"].values():
        field.pop("default", None)


class ScheduleChange(Frozen):
    """What is to be another from now on; what is left out stays."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    name: Name = Field(default="", examples=["loan denial, monthly"])
    rule: Rule | None = None
    """Null takes the rule away."""
    on_new_version: bool = True
    grace_hours: int = Field(default=24, ge=0, le=24 * 366, examples=[48])


class Schedule(Answer):
    id: str
    name: str
    model: str
    behavior: str
    rule: Rule | None
    on_new_version: bool
    grace_hours: int
    paused: bool
    next_due: datetime | None
    """By the rule; null without one, and while paused."""
    overdue_since: datetime | None
    """When it was due what is still not completed after the time of grace."""
    retired_at: datetime | None
    """Nothing comes of it since then."""
    created_by: str
    created_at: datetime


class Occurrence(Answer):
    """A time that came, or a new version."""

    id: str
    schedule_id: str
    kind: OccurrenceKind
    nominal_at: datetime
    due_at: datetime
    """The nominal time with its delay."""
    collapsed: int
    """Missed times before it that it stands for."""
    state: OccurrenceState
    reason: str | None
    """Why no run could be started."""
    model_version_id: str | None
    run_id: str | None


class Standing(StrEnum):
    """How an entry of the calendar stands."""

    UPCOMING = "upcoming"
    PAUSED = "paused"
    """It will not be done: the schedule rests."""
    DUE = "due"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    """Its run failed or was cancelled, or none could be started."""


class Entry(Answer):
    """A line of the calendar."""

    schedule_id: str
    schedule: str
    model: str
    behavior: str
    kind: OccurrenceKind
    nominal_at: datetime
    due_at: datetime
    standing: Standing
    overdue: bool
    collapsed: int
    run_id: str | None
    reason: str | None
