"""/v1/revalidations, the runs that were accepted, and what changed in a run."""

from typing import Annotated

from fastapi import APIRouter, Query

from audit_service.border.idempotency import Idempotent
from audit_service.border.paging import ById, Page, paged
from audit_service.border.routes import Guarded
from audit_service.border.schemas import Body, Name, Uuid
from audit_service.border.transactions import Actor, Reading, Writing
from audit_service.db.tables import ApprovalRow, RevalidationRow
from audit_service.problems import WITH_BODY, responses
from audit_service.revalidation import repository, service
from audit_service.revalidation.schemas import AcceptedRun, Revalidation, RevalidationCreate

router = APIRouter(tags=["revalidation"], route_class=Guarded)


@router.get("/accepted-runs")
def list_accepted_runs(
    session: Reading,
    paging: ById,
    model: Annotated[Name | None, Query(description="Only of the model of this name.")] = None,
    behavior: Annotated[Name | None, Query(description="Only of the behavior of this name.")] = None,
) -> Page[AcceptedRun]:
    """Runs whose verdict was accepted, the one submitted last first. Schedules repeat the one accepted last."""
    query = repository.acceptances(model=model, behavior=behavior)
    return paged(session, query, paging, key=ApprovalRow.id).page(AcceptedRun)


@router.post("/revalidations", status_code=201, responses=responses(*WITH_BODY, 404, 409))
def start_revalidation(
    body: Body[RevalidationCreate], session: Writing, actor: Actor, once: Idempotent
) -> Revalidation:
    """Repeat a completed run's plan, unchanged, on another version of its model, and compare.

    Schedules do it by themselves with the run that was accepted last; reports tell of a comparison with such a run.
    """
    return once.answer(session, Revalidation, lambda: service.revalidate(session, body, by=actor))


@router.get("/revalidations")
def list_revalidations(
    session: Reading,
    paging: ById,
    earlier_run_id: Annotated[Uuid | None, Query(description="Only repetitions of this run.")] = None,
) -> Page[Revalidation]:
    """Repetitions of earlier runs, newest first."""
    query = repository.revalidations(earlier_run_id=earlier_run_id)
    return paged(session, query, paging, key=RevalidationRow.id).page(Revalidation)


@router.get("/runs/{run_id}/revalidation", responses=responses(404))
def get_revalidation(run_id: Uuid, session: Reading) -> Revalidation:
    """What the run repeats, and what changed since."""
    return Revalidation.of(service.revalidation(session, run_id))
