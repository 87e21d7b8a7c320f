"""/v1/model-imports, and the door for MLflow's webhooks."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request

from audit_service.border.handle import AppSettings, Handle
from audit_service.border.idempotency import Idempotent
from audit_service.border.paging import Page, Paging, paged, sortable
from audit_service.border.routes import Guarded, Open
from audit_service.border.schemas import Body, Name
from audit_service.border.transactions import Actor, Reading, Writing
from audit_service.db.tables import ImportRow
from audit_service.domain.lifecycle import ImportState
from audit_service.errors import Unauthenticated
from audit_service.modelimports import service
from audit_service.modelimports.schemas import Import, ImportCreate, Received
from audit_service.modelimports.signatures import check_mlflow
from audit_service.problems import WITH_BODY, responses

router = APIRouter(tags=["models"], route_class=Guarded)
signed_calls = APIRouter(tags=["models"], route_class=Open)
"""What needs no token: a signature says who asks."""


@router.post("/model-imports", status_code=201, responses=responses(*WITH_BODY, 409, existing=Import))
def import_model_version(body: Body[ImportCreate], session: Writing, actor: Actor, once: Idempotent) -> Import:
    """Fetch a registered model version from MLflow and register it here, by a worker.

    Later versions of the model follow by themselves, when MLflow's webhook tells of them or when they are found.
    """
    return once.answer(session, Import, lambda: service.ask(session, body, by=actor))


@router.get("/model-imports")
def list_model_imports(
    session: Reading,
    paging: Annotated[Paging, sortable(name=ImportRow.name, state=ImportRow.state)],
    name: Annotated[Name | None, Query(description="Only versions of the model of this name.")] = None,
    state: Annotated[ImportState | None, Query(description="Only those in this state.")] = None,
) -> Page[Import]:
    """What was asked for, newest first."""
    return paged(session, service.imports(name=name, state=state), paging, key=ImportRow.id).page(Import)


async def _signed(
    request: Request,
    settings: AppSettings,
    signature: Annotated[str, Header(alias="X-MLflow-Signature", max_length=200)] = "",
    delivery_id: Annotated[str, Header(alias="X-MLflow-Delivery-Id", max_length=200)] = "",
    timestamp: Annotated[str, Header(alias="X-MLflow-Timestamp", max_length=20)] = "",
) -> bytes:
    """The body, once its signature was found to be MLflow's."""
    if settings.mlflow_webhook_secret is None:
        raise Unauthenticated("No webhooks are expected.", remedy="Set AUDIT_MLFLOW_WEBHOOK_SECRET.")
    body = await request.body()
    check_mlflow(
        settings.mlflow_webhook_secret.get_secret_value(),
        signature=signature,
        delivery_id=delivery_id,
        timestamp=timestamp,
        body=body,
        now=time.time(),
    )
    return body


_EVENT = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["entity", "action"],
                    "properties": {
                        "entity": {"type": "string"},
                        "action": {"type": "string"},
                        "data": {"type": ["object", "null"], "required": ["name", "version"]},
                    },
                },
                "example": {
                    "entity": "model_version",
                    "action": "created",
                    "data": {"name": "credit-assistant", "version": "3"},
                },
            }
        },
    }
}
"""Read by hand, since its signature is over its bytes."""


@signed_calls.post("/mlflow/events", responses=responses(*WITH_BODY, 401, 409), openapi_extra=_EVENT)
def receive_mlflow_event(body: Annotated[bytes, Depends(_signed)], handle: Handle, settings: AppSettings) -> Received:
    """What MLflow's registry webhooks are sent to. New versions of registered models are imported."""
    with handle.acting_for(service.organisation(settings)).writing() as session:
        row = service.received(session, body)
        return Received(imported=None if row is None else Import.of(row))
