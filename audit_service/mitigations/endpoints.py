"""/v1/runs/{id}/mitigations."""

from fastapi import APIRouter

from audit_service.border.idempotency import Idempotent
from audit_service.border.paging import ById, Page, paged
from audit_service.border.routes import Guarded
from audit_service.border.schemas import Body, Uuid
from audit_service.border.transactions import Reading, Writing
from audit_service.db.tables import MitigationRow
from audit_service.identity.authentication import Caller
from audit_service.mitigations import service
from audit_service.mitigations.schemas import Mitigation, MitigationCreate
from audit_service.problems import WITH_BODY, responses

router = APIRouter(prefix="/runs", tags=["mitigations"], route_class=Guarded)


@router.post("/{run_id}/mitigations", status_code=201, responses=responses(*WITH_BODY, 404, 409))
def record_mitigation(
    run_id: Uuid, body: Body[MitigationCreate], caller: Caller, session: Writing, once: Idempotent
) -> Mitigation:
    """Put a measure on record that this run was repeated with; its report's next edition tells before and after."""
    return once.answer(session, Mitigation, lambda: service.record(session, run_id, body, caller))


@router.get("/{run_id}/mitigations", responses=responses(404))
def list_mitigations(run_id: Uuid, session: Reading, paging: ById) -> Page[Mitigation]:
    """The measures that the run was repeated with, newest first."""
    query = service.mitigations(session, run_id)
    return paged(session, query, paging, key=MitigationRow.id).page(Mitigation)
