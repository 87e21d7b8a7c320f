"""Deployments as they come in and go out."""

from datetime import datetime

from pydantic import Field

from audit_service.border.schemas import Answer, Moment, Name, Uuid
from audit_service.domain.manifest import Frozen


class DeploymentCreate(Frozen):
    """A place where a model version is in use."""

    model_version_id: Uuid
    place: Name = Field(examples=["production, card applications"])
    since: Moment | None = None
    """Now if left out; not in the future."""


class Deployment(Answer):
    """A place where a model version is or was in use."""

    id: str
    model_version_id: str
    model: str
    version: str
    place: str
    since: datetime
    ended_at: datetime | None
    """Null: it is in use there now."""
    recorded_by: str
    created_at: datetime
