"""Responses as they come in and go out."""

from typing import Annotated

from pydantic import AwareDatetime, StringConstraints

from audit_service.border.schemas import Answer
from audit_service.domain.approvals import Response
from audit_service.domain.manifest import Frozen

Said = Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=r"^[^\x00]*$")]
Text = Annotated[str, StringConstraints(max_length=4000, pattern=r"^[^\x00]*$")]
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
    due: AwareDatetime | None = None
    """By when."""


class ResponseRecord(Answer):
    """An answer, with who gave it and when."""

    id: str
    run_id: str
    response: Response
