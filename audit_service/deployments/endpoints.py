"""/v1/deployments."""

from typing import Annotated

from fastapi import APIRouter, Query

from audit_service.border.idempotency import Idempotent
from audit_service.border.paging import Page, Paging, paged, sortable
from audit_service.border.routes import Guarded
from audit_service.border.schemas import Body, Name, Uuid
from audit_service.border.transactions import Actor, Reading, Writing
from audit_service.db.tables import DeploymentRow, ModelRow
from audit_service.deployments import service
from audit_service.deployments.schemas import Deployment, DeploymentCreate
from audit_service.problems import WITH_BODY, responses

router = APIRouter(prefix="/deployments", tags=["deployments"], route_class=Guarded)


@router.post("", status_code=201, responses=responses(*WITH_BODY, 404, 409, existing=Deployment))
def record_deployment(body: Body[DeploymentCreate], actor: Actor, session: Writing, once: Idempotent) -> Deployment:
    """Put on record that a model version is in use somewhere. Reports say whether it is the audited one.

    What is in use there already is answered with 200.
    """
    return once.answer(session, Deployment, lambda: service.record(session, body, by=actor))


@router.get("")
def list_deployments(
    session: Reading,
    paging: Annotated[Paging, sortable(model=ModelRow.name, place=DeploymentRow.place, since=DeploymentRow.since)],
    model: Annotated[Name | None, Query(description="Only of the model of this name.")] = None,
) -> Page[Deployment]:
    """Where model versions are and were in use, newest first."""
    query = service.deployments(model=model)
    return paged(session, query, paging, key=DeploymentRow.id).page(Deployment)


@router.get("/{deployment_id}", responses=responses(404))
def get_deployment(deployment_id: Uuid, session: Reading) -> Deployment:
    """One deployment."""
    return Deployment.of(service.deployment(session, deployment_id))


@router.post("/{deployment_id}/end", responses=responses(404))
def end_deployment(deployment_id: Uuid, actor: Actor, session: Writing) -> Deployment:
    """The version is no longer in use there."""
    return Deployment.of(service.end(session, deployment_id, by=actor))
