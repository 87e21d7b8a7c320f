"""Every error a user can meet, each with its HTTP status and its remedy.

AuditError
├── InvalidInput              422  what was sent cannot be used
│   ├── InvalidModel               a folder that is no loadable, safe model
│   ├── InvalidBehavior            a behavior that contradicts itself or the tokenizer
│   ├── InvalidPairs               a pair file with bad rows (each is named)
│   └── InvalidTrace               sites, positions or prompts the engine cannot honour
├── Unauthenticated           401  nobody knows who asks
├── Forbidden                 403  the caller may not do this
├── NotFound                  404
├── Gone                      410  it was there and is no more
├── Outdated                  412  it was changed meanwhile
├── Unconditional             428  a change must say of what
├── TooManyRequests           429
├── Conflict                  409  the present state does not allow it
│   ├── ModelChanged               files differ from the registered digest
│   ├── ControlFailed              a control of the method failed: the run stops
│   ├── TooLittleMemory            not even one run fits into the machine
│   └── WrittenOtherwise           a stored record that another version of the service wrote, and this one cannot read
├── Cancelled                 409  the user asked for the work to stop
└── Unavailable               503  a part of the service is down
    ├── BrokerDown
    ├── DatabaseDown
    ├── DatabaseBehind             migrations have not been applied
    └── StorageFull
"""

import re
from typing import ClassVar


class AuditError(Exception):
    """What went wrong in one sentence, and in a second one what to do about it."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something failed"

    def __init__(self, message: str, *, remedy: str, details: list[str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details = details or []

    @classmethod
    def urn(cls) -> str:
        """Stable name of this kind of error in answers over HTTP."""
        return "urn:audit-service:" + re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  - {detail}" for detail in self.details), f"→ {self.remedy}"])


# A table in all but its form: classes, because errors are caught, and found by clients, by their kind.


class InvalidInput(AuditError):
    status = 422
    title = "The input cannot be used"


class InvalidModel(InvalidInput):
    title = "The model cannot be used"


class InvalidBehavior(InvalidInput):
    title = "The behavior cannot be used"


class InvalidPairs(InvalidInput):
    title = "The prompt pairs cannot be used"


class InvalidTrace(InvalidInput):
    title = "The trace cannot be computed as asked"


class Unauthenticated(AuditError):
    status = 401
    title = "Who asks is not known"


class Forbidden(AuditError):
    status = 403
    title = "Not allowed"


class NotFound(AuditError):
    status = 404
    title = "Not found"


class Gone(AuditError):
    status = 410
    title = "No longer available"


class Outdated(AuditError):
    status = 412
    title = "Changed meanwhile"


class Unconditional(AuditError):
    status = 428
    title = "The change does not say what it changes"


class TooManyRequests(AuditError):
    status = 429
    title = "Too many requests"

    def __init__(self, message: str, *, remedy: str, retry_after_s: int) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class Conflict(AuditError):
    status = 409
    title = "Not possible in the present state"


class ModelChanged(Conflict):
    title = "The model's files changed after registration"


class ControlFailed(Conflict):
    title = "A control of the method failed"


class TooLittleMemory(Conflict):
    title = "The machine has too little memory"


class WrittenOtherwise(Conflict):
    title = "Written by another version"


class Cancelled(Conflict):
    title = "Cancelled"


class Unavailable(AuditError):
    status = 503
    title = "A part of the service is not available"


class BrokerDown(Unavailable):
    title = "The broker is down"


class DatabaseDown(Unavailable):
    title = "The database is down"


class DatabaseBehind(Unavailable):
    title = "The database is behind its migrations"


class StorageFull(Unavailable):
    title = "No space is left"
