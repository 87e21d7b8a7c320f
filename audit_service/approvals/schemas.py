"""Approvals as they come in and go out."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import StringConstraints

from audit_service.border.schemas import Answer, Moment, Said, Text, Uuid
from audit_service.domain.approvals import Acceptance, AcceptanceKind, Decision, Record
from audit_service.domain.manifest import Frozen

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class AcceptanceWanted(Frozen):
    """An exception or a risk that is to be accepted, until when and on what conditions."""

    kind: AcceptanceKind
    scope: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")] = "behavior"
    """The form that it is about, or "behavior"."""
    reason: Said
    conditions: Text = ""
    expires: Moment


class Submission(Frozen):
    """A record to put before a reviewer."""

    record: Record
    plan_id: Uuid | None = None
    """For a plan."""
    run_id: Uuid | None = None
    """For a run's verdict, report or accepted risk."""
    digest: Digest | None = None
    """What the preparer signs for: the record's SHA-256. Left out for a risk, whose digest is in the answer."""
    acceptance: AcceptanceWanted | None = None
    """For an accepted risk or an exception."""
    comment: Text = ""


class DecisionMade(Frozen):
    """What the reviewer decides."""

    decision: Literal[Decision.ACCEPTED, Decision.ACCEPTED_WITH_CONDITIONS, Decision.RETURNED, Decision.REJECTED]
    digest: Digest
    """What the reviewer has read and signs for; it must be the digest that was submitted."""
    comment: Text = ""
    """The conditions, or why."""


class ApprovalRecord(Answer):
    """A record, who prepared it, who decided on it, and what both signed for."""

    id: str
    record: Record
    record_digest: str
    plan_id: str
    run_id: str | None
    acceptance: Acceptance | None
    state: Decision
    preparer: str
    preparer_role: str
    comment: str
    created_at: datetime
    reviewer: str | None
    reviewer_role: str | None
    decision_comment: str | None
    decided_at: datetime | None
