"""/v1/approvals."""

from typing import Annotated

from fastapi import APIRouter, Query

from audit_service.approvals import service
from audit_service.approvals.schemas import ApprovalRecord, DecisionMade, Submission
from audit_service.border.idempotency import Idempotent
from audit_service.border.paging import Page, Paging, paged, sortable
from audit_service.border.routes import Guarded
from audit_service.border.schemas import Body, Uuid
from audit_service.border.transactions import Reading, Writing
from audit_service.db.tables import ApprovalRow
from audit_service.domain.approvals import Decision
from audit_service.identity.authentication import Caller
from audit_service.problems import WITH_BODY, responses

router = APIRouter(prefix="/approvals", tags=["approvals"], route_class=Guarded)


@router.post("", status_code=201, responses=responses(*WITH_BODY, 404, 409, existing=ApprovalRecord))
def submit_for_approval(body: Body[Submission], caller: Caller, session: Writing, once: Idempotent) -> ApprovalRecord:
    """Put a plan, a verdict, a report or an accepted risk before a reviewer, and sign for its digest."""
    return once.answer(session, ApprovalRecord, lambda: service.submit(session, body, caller))


@router.get("")
def list_approvals(
    session: Reading,
    paging: Annotated[Paging, sortable(record=ApprovalRow.record, state=ApprovalRow.state)],
    run_id: Annotated[Uuid | None, Query(description="Only on this run's records.")] = None,
    plan_id: Annotated[Uuid | None, Query(description="Only on this plan and its runs.")] = None,
    state: Annotated[Decision | None, Query(description="Only in this state; `submitted` is undecided.")] = None,
) -> Page[ApprovalRecord]:
    """What was put before reviewers, newest first."""
    query = service.approvals(run_id=run_id, plan_id=plan_id, state=state)
    return paged(session, query, paging, key=ApprovalRow.id).page(ApprovalRecord)


@router.get("/{approval_id}", responses=responses(404))
def get_approval(approval_id: Uuid, session: Reading) -> ApprovalRecord:
    """One record and what was decided on it."""
    return ApprovalRecord.of(service.approval(session, approval_id))


@router.post("/{approval_id}/decision", responses=responses(*WITH_BODY, 404, 409))
def decide_on_approval(approval_id: Uuid, body: Body[DecisionMade], caller: Caller, session: Writing) -> ApprovalRecord:
    """Decide on a record that somebody else prepared, and sign for its digest. A decision is final."""
    return ApprovalRecord.of(service.decide(session, approval_id, body, caller))
