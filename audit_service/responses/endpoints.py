"""/v1/runs/{id}/responses."""

from fastapi import APIRouter

from audit_service.border.idempotency import Idempotent
from audit_service.border.paging import ById, Page, paged
from audit_service.border.routes import Guarded
from audit_service.border.schemas import Body, Uuid
from audit_service.border.transactions import Reading, Writing
from audit_service.db.tables import ResponseRow
from audit_service.identity.authentication import Caller
from audit_service.problems import WITH_BODY, responses
from audit_service.responses import service
from audit_service.responses.schemas import ResponseCreate, ResponseRecord

router = APIRouter(prefix="/runs", tags=["responses"], route_class=Guarded)


@router.post("/{run_id}/responses", status_code=201, responses=responses(*WITH_BODY, 404, 409))
def respond_to_finding(
    run_id: Uuid, body: Body[ResponseCreate], caller: Caller, session: Writing, once: Idempotent
) -> ResponseRecord:
    """Answer a finding for management. It cannot be changed; the next edition of the report prints it."""
    return once.answer(session, ResponseRecord, lambda: service.respond(session, run_id, body, caller))


@router.get("/{run_id}/responses", responses=responses(404))
def list_responses(run_id: Uuid, session: Reading, paging: ById) -> Page[ResponseRecord]:
    """What management answered to the run's findings, newest first."""
    query = service.responses(session, run_id)
    return paged(session, query, paging, key=ResponseRow.id).page(ResponseRecord)
