"""Behavior versions as they go out; what comes in is the behavior itself."""

from datetime import datetime

from audit_service.border.schemas import Answer
from audit_service.domain.behaviors import Behavior


class BehaviorVersion(Answer):
    id: str
    behavior_id: str
    name: str
    number: int
    """1 for the first version of the behavior of that name."""
    digest: str
    """SHA-256 of the content's canonical JSON."""
    content: Behavior
    created_at: datetime
