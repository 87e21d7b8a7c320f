"""Responses as they come in and go out."""

from typing import Annotated

from pydantic import StringConstraints

from audit_service.border.schemas import Answer, Moment, Said, Text
from audit_service.domain.approvals import Response
from audit_service.domain.manifest import Frozen

Word = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")]


class ResponseCreate(Frozen):
    """What management answers to an open item."""

    scope: Word = "behavior"
    """The form that the item is about, or "behavior" for all open items."""
    text: Said
    action: Text = ""
    """What will be done."""
    owner: Word = ""
    """Who does it."""
    due: Moment | None = None
    """By when."""


class ResponseRecord(Answer):
    """An answer, with who gave it and when."""

    id: str
    run_id: str
    response: Response
