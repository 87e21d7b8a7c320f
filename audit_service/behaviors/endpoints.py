"""/v1/behavior-versions."""

from typing import Annotated

import fastapi
from fastapi import APIRouter, Query

from audit_service.behaviors import repository, service
from audit_service.behaviors.example import EXAMPLE
from audit_service.behaviors.schemas import BehaviorVersion
from audit_service.border.idempotency import Idempotent
from audit_service.border.paging import Page, Paging, paged, sortable
from audit_service.border.routes import Guarded
from audit_service.border.schemas import Body, Name, Uuid
from audit_service.border.transactions import Reading, Writing
from audit_service.db.tables import BehaviorRow, BehaviorVersionRow
from audit_service.domain.behaviors import Behavior
from audit_service.problems import WITH_BODY, responses

router = APIRouter(tags=["behaviors"], route_class=Guarded)


@router.post("/behavior-versions", status_code=201, responses=responses(*WITH_BODY, 409, existing=BehaviorVersion))
def register_behavior_version(
    body: Annotated[Body[Behavior], fastapi.Body(examples=[EXAMPLE])], session: Writing, once: Idempotent
) -> BehaviorVersion:
    """Register a behavior; a changed one becomes the next version, an unchanged one is given back (200)."""
    return once.answer(session, BehaviorVersion, lambda: service.register(session, body))


@router.get("/behavior-versions")
def list_behavior_versions(
    session: Reading,
    paging: Annotated[Paging, sortable(behavior=BehaviorRow.name, number=BehaviorVersionRow.number)],
    behavior: Annotated[Name | None, Query(description="Only the versions of the behavior of this name.")] = None,
) -> Page[BehaviorVersion]:
    """The behavior versions, newest first."""
    query = repository.versions(name=behavior)
    return paged(session, query, paging, key=BehaviorVersionRow.id).page(BehaviorVersion)


@router.get("/behavior-versions/{version_id}", responses=responses(404))
def get_behavior_version(version_id: Uuid, session: Reading) -> BehaviorVersion:
    """One behavior version with its prompts, labels and thresholds."""
    return BehaviorVersion.of(service.version(session, version_id))
