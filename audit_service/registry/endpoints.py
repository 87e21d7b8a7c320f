"""/v1/models and /v1/model-versions."""

from typing import Annotated

from fastapi import APIRouter, Query

from audit_service.border.handle import AppSettings
from audit_service.border.idempotency import Idempotent
from audit_service.border.paging import Page, Paging, paged, sortable
from audit_service.border.routes import Guarded
from audit_service.border.schemas import Body, Name, Uuid
from audit_service.border.transactions import Reading, Writing
from audit_service.db.tables import ModelRow, ModelVersionRow
from audit_service.identity.authentication import Caller
from audit_service.problems import WITH_BODY, responses
from audit_service.registry import repository, service
from audit_service.registry.schemas import Model, ModelVersion, ModelVersionCreate

router = APIRouter(tags=["models"], route_class=Guarded)


@router.get("/models")
def list_models(
    session: Reading,
    paging: Annotated[Paging, sortable(name=ModelRow.name)],
    name: Annotated[Name | None, Query(description="Only the model of this name.")] = None,
) -> Page[Model]:
    """The models, newest first."""
    return paged(session, repository.models(name=name), paging, key=ModelRow.id).page(Model)


@router.post("/model-versions", status_code=201, responses=responses(*WITH_BODY, 409, existing=ModelVersion))
def register_model_version(
    body: Body[ModelVersionCreate], caller: Caller, session: Writing, settings: AppSettings, once: Idempotent
) -> ModelVersion:
    """Register a model version by the SHA-256 of every file of its folder.

    Refused: a folder that is no model or lies outside the service's model folders, pickle checkpoints, models that want
    remote code, a missing tokenizer. The same label with the same files gives the registered version (200).
    """
    roots = settings.model_roots_of(caller.organisation_id)
    return once.answer(session, ModelVersion, lambda: service.register(session, body, roots=roots))


@router.get("/model-versions")
def list_model_versions(
    session: Reading,
    paging: Annotated[Paging, sortable(model=ModelRow.name, version=ModelVersionRow.version)],
    model: Annotated[Name | None, Query(description="Only the versions of the model of this name.")] = None,
) -> Page[ModelVersion]:
    """The model versions, newest first."""
    query = repository.versions(name=model)
    return paged(session, query, paging, key=ModelVersionRow.id).page(ModelVersion)


@router.get("/model-versions/{version_id}", responses=responses(404))
def get_model_version(version_id: Uuid, session: Reading) -> ModelVersion:
    """One model version."""
    return ModelVersion.of(service.version(session, version_id))
