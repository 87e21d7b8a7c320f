"""What people put on record about a run: approvals, responses to findings, exceptions and accepted risks."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from pydantic import AwareDatetime, Field

from audit_service.domain.manifest import Frozen
from audit_service.domain.plan import Plan
from audit_service.domain.robustness import BEHAVIOR
from audit_service.errors import Conflict, InvalidInput


class Record(StrEnum):
    """What can be put before a reviewer, and which digest a decision on it names."""

    PLAN = "plan"
    """The plan's digest."""
    VERDICT = "verdict"
    """The SHA-256 of the judgement's canonical JSON."""
    REPORT = "report"
    """The SHA-256 of the PDF that was read: an earlier edition than the one that tells of the decision."""
    ACCEPTANCE = "risk_acceptance"
    """The SHA-256 of the acceptance's canonical JSON."""


class Decision(StrEnum):
    SUBMITTED = "submitted"
    """The preparer put the record before a reviewer."""
    ACCEPTED = "accepted"
    ACCEPTED_WITH_CONDITIONS = "accepted_with_conditions"
    """The conditions stand in the comment."""
    RETURNED = "returned"
    """For rework; nothing is decided."""
    REJECTED = "rejected"


DECISIONS: Mapping[Decision, frozenset[Decision]] = MappingProxyType(
    {
        Decision.SUBMITTED: frozenset(
            {Decision.ACCEPTED, Decision.ACCEPTED_WITH_CONDITIONS, Decision.RETURNED, Decision.REJECTED}
        ),
        Decision.ACCEPTED: frozenset(),
        Decision.ACCEPTED_WITH_CONDITIONS: frozenset(),
        Decision.RETURNED: frozenset(),
        Decision.REJECTED: frozenset(),
    }
)
"""What may follow: a decision is final, and a record that was returned is put before a reviewer anew."""


def check_decision(present: Decision, to: Decision) -> None:
    """Raise Conflict unless the table has the decision."""
    if to not in DECISIONS[present]:
        raise Conflict(
            f"A record that is {present} cannot become {to}.",
            remedy="Put it before a reviewer anew." if present is not Decision.SUBMITTED else "Decide on it.",
        )


ACCEPTING = frozenset({Decision.ACCEPTED, Decision.ACCEPTED_WITH_CONDITIONS})


def check_scope(plan: Plan, scope: str) -> None:
    """Raise InvalidInput unless the scope is one of the plan's forms, or the behavior as a whole."""
    scopes = [BEHAVIOR, *(form.name for form in plan.behavior.forms)]
    if scope not in scopes:
        raise InvalidInput(f"The plan has no form {scope!r}.", remedy=f"Name one of {', '.join(scopes)}.")


class Approval(Frozen):
    """A decision of a named person on a named record."""

    at: AwareDatetime
    person: str = Field(min_length=1)
    """As the event log names the person, so that preparer and reviewer can be told apart."""
    role: str
    """The person's function in the organisation."""
    record: Record
    record_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of what the person decided on."""
    decision: Decision
    comment: str = ""

    @property
    def accepts(self) -> bool:
        return self.decision in ACCEPTING


class Response(Frozen):
    """What management answers to an open item."""

    scope: str = Field(min_length=1)
    """The form that the item is about, or "behavior"."""
    at: AwareDatetime
    person: str
    text: str
    action: str = ""
    owner: str = ""
    due: AwareDatetime | None = None


class AcceptanceKind(StrEnum):
    EXCEPTION = "exception"
    """A departure from the organisation's own rules, such as a missed reviewer."""
    RISK = "risk"
    """A known finding that the organisation lives with for a time."""


class Acceptance(Frozen):
    """An exception or a risk that somebody asks to accept. It holds once another person accepts it, and always ends."""

    id: str
    kind: AcceptanceKind
    scope: str = Field(min_length=1)
    """The form that it is about, or "behavior"."""
    reason: str
    conditions: str = ""
    person: str
    """Who asks for it; who decides on it stands in the approval that names its digest."""
    role: str
    at: AwareDatetime
    expires: AwareDatetime

    def expired(self, at: AwareDatetime) -> bool:
        return self.expires <= at
