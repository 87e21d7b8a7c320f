"""What can be told, to whom, and what became of it."""

from enum import StrEnum


class Topic(StrEnum):
    RUN_COMPLETED = "run.completed"
    RUN_FAILED = "run.failed"
    REVALIDATION_COMPLETED = "revalidation.completed"
    """A run that repeats an earlier one has its report; the message says what changed."""
    REVALIDATION_FAILED = "revalidation.failed"
    """It failed, or could not be started."""
    SCHEDULE_OVERDUE = "schedule.overdue"
    IMPORT_REFUSED = "import.refused"
    """A model version of another registry could not be registered."""
    TEST = "test"
    """Sent on demand, to one target."""


class TargetKind(StrEnum):
    WEBHOOK = "webhook"
    EMAIL = "email"


class MessageState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    """Given up; it can be sent again."""
