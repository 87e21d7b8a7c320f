"""/healthz, /readyz and /metrics."""

from datetime import UTC, datetime
from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from pydantic import BaseModel
from sqlalchemy import func, select

from audit_service import dispatch
from audit_service.border.handle import Handle
from audit_service.db.migrating import check_current
from audit_service.db.tables import RunRow
from audit_service.domain.lifecycle import RunState
from audit_service.problems import responses
from audit_service.schedules import service as schedules

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


@router.get("/healthz")
def is_alive() -> Health:
    """The process answers. Restart it when this fails."""
    return Health()


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **responses(503),
    },
)
def show_metrics(request: Request, handle: Handle) -> Response:
    """Counts of requests, runs by state, waiting work and overdue audits, for Prometheus. No organisation is named."""
    with handle.reading() as session:
        counted = session.execute(select(RunRow.state, func.count()).group_by(RunRow.state)).all()
        overdue = schedules.overdue(session, now=datetime.now(UTC))
    own = CollectorRegistry()
    runs = Gauge("audit_runs", "Runs by state.", ["state"], registry=own)
    for state, count in (dict.fromkeys(RunState, 0) | dict(counted)).items():
        runs.labels(state.value).set(count)
    waiting = Gauge("audit_waiting_messages", "Messages that no worker has taken.", ["queue"], registry=own)
    for queue in (dispatch.CPU, dispatch.GPU):
        waiting.labels(queue).set(dispatch.waiting(queue))
    Gauge("audit_overdue_schedules", "Schedules whose audit was due and is not completed.", registry=own).set(overdue)
    content = generate_latest(request.app.state.registry) + generate_latest(own)
    return Response(content, media_type=CONTENT_TYPE_LATEST)


class Readiness(Health):
    overdue_schedules: int
    """Of all organisations: audits that were due and are not completed. The service is ready nevertheless."""


@router.get("/readyz", responses=responses(503))
def is_ready(database: Handle) -> Readiness:
    """Database, migrations and broker are as they must be. Send no requests while this fails."""
    check_current(database.engine)
    dispatch.waiting(dispatch.CPU)
    with database.reading() as session:
        return Readiness(overdue_schedules=schedules.overdue(session, now=datetime.now(UTC)))
