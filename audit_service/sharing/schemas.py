"""Links as they come in and go out."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import Field, StringConstraints

from audit_service.border.schemas import Answer
from audit_service.db.tables import ShareRow
from audit_service.domain.manifest import Frozen


class ShareCreate(Frozen):
    """A link to the youngest edition of a run's reports and bundle."""

    days: int = Field(default=30, ge=1, le=366, examples=[14])
    """How long it lasts."""
    note: Annotated[str, StringConstraints(max_length=400, pattern=r"^[^\x00]*$")] = Field(
        default="", examples=["the supervisor"]
    )
    """For whom."""


class Share(Answer):
    id: str
    run_id: str
    edition: int
    note: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    opened: int
    """How often something was fetched with it."""
    opened_at: datetime | None


class NewShare(Share):
    """A link as it was made; its path is shown this once."""

    path: str
    """Put it after the service's address. Whoever has it can fetch the evidence until it ends."""

    @classmethod
    def made(cls, row: ShareRow, text: str) -> Self:
        return cls(**Share.of(row).model_dump(), path=f"/v1/shared/{text}")


class SharedRun(Answer):
    """What a link leads to."""

    run_id: str
    edition: int
    languages: list[str]
    """Ask for the report in one of them."""
    bundle_digest: str
    """SHA-256 of the bundle; compare it after downloading."""
    expires_at: datetime
