"""/v1/metrics."""

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import select

from audit_service.border.idempotency import Idempotent
from audit_service.border.paging import Page, Paging, paged, sortable
from audit_service.border.routes import Guarded
from audit_service.border.schemas import Body, Name, Uuid
from audit_service.border.transactions import Reading, Writing
from audit_service.db.queries import narrowed
from audit_service.db.tables import MetricRow
from audit_service.domain.readings import MetricDefinition
from audit_service.metrics import service
from audit_service.metrics.schemas import MetricVersion
from audit_service.problems import WITH_BODY, responses

router = APIRouter(prefix="/metrics", tags=["metrics"], route_class=Guarded)


@router.post("", status_code=201, responses=responses(*WITH_BODY, 409, existing=MetricVersion))
def register_metric(body: Body[MetricDefinition], session: Writing, once: Idempotent) -> MetricVersion:
    """Register a metric; a changed one becomes the next version, an unchanged one is given back (200)."""
    return once.answer(session, MetricVersion, lambda: service.register(session, body))


@router.get("")
def list_metrics(
    session: Reading,
    paging: Annotated[Paging, sortable(name=MetricRow.name)],
    name: Annotated[Name | None, Query(description="Only the versions of the metric of this name.")] = None,
) -> Page[MetricVersion]:
    """The metrics with the built-in ones, newest first."""
    query = narrowed(select(MetricRow), {MetricRow.name: name})
    return paged(session, query, paging, key=MetricRow.id).page(MetricVersion)


@router.get("/{metric_id}", responses=responses(404))
def get_metric(metric_id: Uuid, session: Reading) -> MetricVersion:
    """One metric."""
    return MetricVersion.of(service.metric(session, metric_id))
