"""Imports as they come in and go out, and what MLflow sends."""

from datetime import datetime

from pydantic import BaseModel, Field

from audit_service.border.schemas import Answer, Name
from audit_service.domain.lifecycle import ImportState
from audit_service.domain.manifest import Frozen
from audit_service.registry.schemas import Dtype


class ImportCreate(Frozen):
    """A registered model version of MLflow."""

    name: Name = Field(examples=["credit-assistant"])
    """The registered model's name there; the model gets the same name here."""
    version: str = Field(pattern=r"^[0-9]{1,18}$", examples=["3"])
    dtype: Dtype = Dtype.FLOAT32
    """The number format that the model is run in. It is part of what is audited."""


class Import(Answer):
    id: str
    name: str
    version: str
    dtype: str
    asked_by: str
    state: ImportState
    reason: str | None
    """Why it could not be registered."""
    model_version_id: str | None
    """The version as it is registered here."""
    created_at: datetime


class MlflowVersion(BaseModel):
    """The part of MLflow's ``model_version.created`` that we read."""

    name: str
    version: str | int


class MlflowEvent(BaseModel):
    entity: str
    action: str
    data: MlflowVersion | None = None


class Received(Answer):
    """What became of a webhook."""

    imported: Import | None
    """None: it tells of nothing that is followed here."""
