"""Accepted runs and revalidations as they come in and go out."""

from datetime import datetime

from audit_service.audits.schemas import Run
from audit_service.border.schemas import Answer, Uuid
from audit_service.domain.drift import Drift
from audit_service.domain.manifest import Frozen


class AcceptedRun(Answer):
    """A reviewer's acceptance of a run's verdict."""

    id: str
    """Of the approval."""
    run_id: str
    record_digest: str
    """Of the verdict that was accepted."""
    reviewer: str
    decided_at: datetime


class RevalidationCreate(Frozen):
    """Repeat a completed run on another version of its model."""

    model_version_id: Uuid
    earlier_run_id: Uuid


class Revalidation(Answer):
    """A run that repeats an earlier one."""

    id: str
    run_id: str
    run: Run
    earlier_run_id: str
    drift: Drift | None
    """What changed from the earlier run to this one, pair by pair; null until the run is judged."""
    created_at: datetime
