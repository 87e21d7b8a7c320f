"""Targets and messages as they come in and go out."""

from datetime import datetime

from pydantic import Field, field_validator

from audit_service.border.schemas import Answer
from audit_service.domain.manifest import Frozen
from audit_service.domain.notifications import MessageState, TargetKind, Topic

_ALL = tuple(topic for topic in Topic if topic is not Topic.TEST)


class TargetCreate(Frozen):
    """Somebody who wants to be told."""

    kind: TargetKind
    address: str = Field(min_length=3, max_length=2000, examples=["https://example.org/hooks/audit"])
    """A URL, or an e-mail address."""
    topics: tuple[Topic, ...] = Field(default=_ALL, min_length=1, max_length=len(Topic))

    @field_validator("address")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not value.isprintable() or " " in value:
            raise ValueError("an address has no spaces and no control characters")
        return value


class Target(Answer):
    id: str
    kind: TargetKind
    address: str
    topics: tuple[Topic, ...]
    created_by: str
    created_at: datetime
    removed_at: datetime | None
    """Nothing more is sent to it since then."""


class NewTarget(Target):
    secret: str | None
    """What its webhooks are signed with, shown this once; none for e-mail."""


class Message(Answer):
    """Something to be told to one target."""

    id: str
    """Goes out with every attempt (`webhook-id`, `Message-ID`)."""
    target_id: str
    topic: Topic
    subject: str
    body: str
    """The JSON that is sent."""
    state: MessageState
    attempts: int
    next_at: datetime
    """When a pending one is tried next."""
    error: str | None
    """Why the last attempt failed."""
    created_at: datetime
    delivered_at: datetime | None
