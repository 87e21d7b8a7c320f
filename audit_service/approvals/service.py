"""Putting records before a reviewer, and deciding on them."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from sqlalchemy import Select, or_, select

from audit_service.approvals.schemas import DecisionMade, Submission
from audit_service.audits import planning
from audit_service.audits import service as audits
from audit_service.db.base import Ensured, new_id
from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.queries import narrowed
from audit_service.db.tables import ApprovalRow, PlanRow, ReportRow, RunRow, VerdictRow
from audit_service.domain.approvals import (
    ACCEPTING,
    Acceptance,
    Approval,
    Decision,
    Record,
    check_decision,
    check_scope,
)
from audit_service.domain.lifecycle import EventKind
from audit_service.domain.manifest import digest
from audit_service.errors import Conflict, Forbidden, InvalidInput, NotFound
from audit_service.events import repository as events
from audit_service.identity.principals import Principal


def submit(session: WriteSession, wanted: Submission, by: Principal) -> Ensured[ApprovalRow]:
    """Put a record before a reviewer.

    Raises:
        Forbidden: the caller is no person.
        InvalidInput: the submission does not say what it is about.
        Conflict: the record's digest is not the one that was signed for, or the acceptance has ended already.
    """
    user_id = by.require_person()
    acceptance = _acceptance(wanted, by)
    plan, run, digests = _subject(session, wanted, acceptance)
    signed = wanted.digest or (next(iter(digests)) if acceptance else None)
    if signed is None:
        raise InvalidInput("The submission names no digest.", remedy="Send the SHA-256 of the record as `digest`.")
    if signed not in digests:
        raise _another_digest(signed, digests)
    row = ApprovalRow(
        record=wanted.record,
        record_digest=signed,
        plan_id=plan.id,
        run_id=run.id if run else None,
        acceptance=acceptance,
        state=Decision.SUBMITTED,
        preparer_id=user_id,
        preparer=by.name,
        preparer_role=by.role.value,
        prepared_by=_people(user_id, plan.person_id, run.person_id if run else None),
        comment=wanted.comment,
    )
    session.add(row)
    session.flush()
    _note(session, row, before=None, by=by)
    return Ensured(row, is_new=True)


def decide(session: WriteSession, approval_id: str, made: DecisionMade, by: Principal) -> ApprovalRow:
    """Decide on a record that somebody else prepared: the one function that changes its state.

    Raises:
        Forbidden: the caller planned, ran or submitted it, or is no person.
        Conflict: it is decided on, or the decision names another digest.
    """
    user_id = by.require_person()
    row = approval(session, approval_id, lock=True)
    check_decision(row.state, made.decision)
    if user_id in row.prepared_by:
        raise Forbidden("Nobody decides on what they planned, ran or submitted.", remedy="Ask another reviewer.")
    if made.digest != row.record_digest:
        raise _another_digest(made.digest, {row.record_digest})
    if row.acceptance is not None and made.decision in ACCEPTING and row.acceptance.expired(datetime.now(UTC)):
        raise Conflict("What is to be accepted has ended.", remedy="Reject it, or have it submitted anew.")
    before, row.state = row.state, made.decision
    row.reviewer_id, row.reviewer, row.reviewer_role = user_id, by.name, by.role.value
    row.decision_comment, row.decided_at = made.comment, datetime.now(UTC)
    session.flush()
    _note(session, row, before=before, by=by)
    return row


def approval(session: ReadSession, approval_id: str, *, lock: bool = False) -> ApprovalRow:
    """One record; ``lock`` holds it against other decisions until the transaction ends."""
    # Not a lock of the key: adding an event must not wait for it. What is decided can be read but not locked.
    row = session.get(ApprovalRow, approval_id, with_for_update={"key_share": True}) if lock else None
    if (row := row or session.get(ApprovalRow, approval_id)) is None:
        raise NotFound(f"There is no approval {approval_id}.", remedy="List them with GET /v1/approvals.")
    return row


def approvals(
    *, run_id: str | None = None, plan_id: str | None = None, state: Decision | None = None
) -> Select[ApprovalRow]:
    wanted = {ApprovalRow.run_id: run_id, ApprovalRow.plan_id: plan_id, ApprovalRow.state: state}
    return narrowed(select(ApprovalRow), wanted)


def on_record(session: ReadSession, run: RunRow) -> Sequence[ApprovalRow]:
    """What was put on record about the run and its plan, oldest first."""
    concerns = or_(ApprovalRow.run_id == run.id, ApprovalRow.run_id.is_(None))
    query = select(ApprovalRow).where(ApprovalRow.plan_id == run.plan_id, concerns).order_by(ApprovalRow.id)
    return session.scalars(query).all()


def decisions(rows: Sequence[ApprovalRow]) -> list[Approval]:
    """The trail that a report prints: each submission, and the decision that answers it."""
    return [one for row in rows for one in _trail(row)]


def _trail(row: ApprovalRow) -> Iterator[Approval]:
    submitted = Approval(
        at=row.created_at,
        person=row.preparer,
        role=row.preparer_role,
        record=row.record,
        record_digest=row.record_digest,
        decision=Decision.SUBMITTED,
        comment=row.comment,
    )
    yield submitted
    if row.decided_at and row.reviewer and row.reviewer_role:
        decided = {"at": row.decided_at, "person": row.reviewer, "role": row.reviewer_role, "decision": row.state}
        yield submitted.model_copy(update=decided | {"comment": row.decision_comment or ""})


def _acceptance(wanted: Submission, by: Principal) -> Acceptance | None:
    if (wanted.acceptance is None) == (wanted.record is Record.ACCEPTANCE):
        raise InvalidInput(
            "An accepted risk needs its `acceptance`, and nothing else has one.", remedy="Add or remove it."
        )
    if wanted.acceptance is None:
        return None
    now = datetime.now(UTC)
    if wanted.acceptance.expires <= now:
        raise InvalidInput("The acceptance would have ended already.", remedy="Let `expires` lie ahead.")
    content = dict(wanted.acceptance)
    return Acceptance(id=new_id(), person=by.name, role=by.role.value, at=now, **content)


def _people(*ids: str | None) -> list[str]:
    return sorted({one for one in ids if one is not None})


def _subject(
    session: ReadSession, wanted: Submission, acceptance: Acceptance | None
) -> tuple[PlanRow, RunRow | None, frozenset[str]]:
    """(plan, run, digests that may be signed for): what the submission is about."""
    if wanted.record is Record.PLAN:
        if wanted.plan_id is None or wanted.run_id is not None:
            raise InvalidInput("A plan is submitted by its `plan_id` alone.", remedy="Send it.")
        plan = planning.plan(session, wanted.plan_id)
        return plan, None, frozenset({plan.digest})
    if wanted.run_id is None or wanted.plan_id is not None:
        raise InvalidInput(f"A {wanted.record} is submitted by its `run_id` alone.", remedy="Send it.")
    run = audits.run(session, wanted.run_id)
    if acceptance is not None:
        check_scope(run.plan.content, acceptance.scope)
        return run.plan, run, frozenset({digest(acceptance)})
    kind = VerdictRow if wanted.record is Record.VERDICT else ReportRow
    found = frozenset(session.scalars(select(kind.digest).where(kind.run_id == run.id)))
    if not found:
        raise Conflict(f"The run has no {wanted.record}; it is {run.state}.", remedy="Wait until it is completed.")
    return run.plan, run, found


def _another_digest(signed: str, digests: frozenset[str] | set[str]) -> Conflict:
    return Conflict(
        f"The record is not the one of the digest {signed[:16]}….",
        remedy="Read the record, and sign for the digest that it has.",
        details=sorted(digests),
    )


def _note(session: WriteSession, row: ApprovalRow, *, before: Decision | None, by: Principal) -> None:
    data = {
        "id": row.id,
        "record": row.record.value,
        "digest": row.record_digest,
        "from": before.value if before else None,
        "to": row.state.value,
    }
    events.append(session, row.run_id, EventKind.APPROVAL, actor=by.name, data=data)
