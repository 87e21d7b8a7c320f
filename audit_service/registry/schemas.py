"""Models and model versions as they come in and go out."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from audit_service.border.schemas import Answer, Name
from audit_service.domain.manifest import Frozen
from audit_service.domain.plan import ModelIdentity


class Dtype(StrEnum):
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class ModelVersionCreate(Frozen):
    """A model version to register."""

    name: Name = Field(examples=["credit-assistant"])
    """The model that this is a version of; it is made with its first version."""
    version: Name = Field(examples=["2026-11"])
    """Your label. It stands for these files for good."""
    path: Name = Field(max_length=4096, examples=["/models/credit-assistant-2026-11"])
    """The absolute path of a Hugging Face folder on the service's machine, or a hub name."""
    revision: str | None = Field(default=None, max_length=100)
    """The commit of a hub name, 40 hexadecimal digits."""
    dtype: Dtype = Dtype.FLOAT32
    """The number format that the model is run in. It is part of what is audited."""


class Model(Answer):
    id: str
    name: str
    created_at: datetime


class ModelVersion(Answer):
    id: str
    model_id: str
    name: str
    """The model's name."""
    version: str
    path: str
    hub_name: str | None
    hub_revision: str | None
    digest: str
    """SHA-256 over the names and SHA-256 of all files: the version's identity."""
    identity: ModelIdentity
    created_at: datetime
