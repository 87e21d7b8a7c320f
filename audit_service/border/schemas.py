"""Bases of what comes in and what goes out."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

T = TypeVar("T")

UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
Uuid = Annotated[str, Field(pattern=UUID_PATTERN, examples=["01936f5e-7c1a-7a3e-8f00-0242ac120002"])]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
"""What a person calls a thing; no control characters."""
Text = Annotated[str, StringConstraints(max_length=4000, pattern=r"^[^\x00]*$")]
"""What a person says, or nothing."""
Said = Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=r"^[^\x00]*$")]
"""What a person says."""


def _printable(at: datetime) -> datetime:
    if not 1900 <= at.year < 3000:
        raise ValueError("the year must lie between 1900 and 2999")
    return at


Moment = Annotated[AwareDatetime, AfterValidator(_printable)]
"""A time with its zone, such that every zone has it too."""


class Answer(BaseModel):
    """A record that leaves the service, read from a row."""

    model_config = ConfigDict(from_attributes=True, frozen=True, use_attribute_docstrings=True)

    @classmethod
    def of(cls, row: object) -> Self:
        # Rows hold JSON, which has neither tuples nor enums.
        return cls.model_validate(row, strict=False)


def _as_text(body: object) -> str:
    if isinstance(body, bytes):
        raise PydanticCustomError("json_type", "The body must be JSON, sent with `Content-Type: application/json`")
    return json.dumps(body)


@dataclass(frozen=True)
class FromJson:
    """Marks a body that is validated by JSON's strict rules.

    FastAPI hands over what ``json.loads`` made of the body. Python's strict rules refuse its lists for tuples and
    its words for enums; lax rules take ``false`` for 0.0. JSON's strict rules do neither.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401
        strict = core_schema.json_schema(handler(source))
        return core_schema.no_info_before_validator_function(_as_text, strict)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        inner: CoreSchema = schema["schema"]["schema"]
        return handler(inner)


Body = Annotated[T, FromJson()]
"""``body: Body[PlanCreate]``"""
