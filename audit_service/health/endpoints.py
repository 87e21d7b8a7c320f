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
    """Counts of requests, of runs by state and of waiting work, for Prometheus. No organisation is named."""
    with handle.reading() as session:
        counted = session.execute(select(RunRow.state, func.count()).group_by(RunRow.state)).all()
    runs = dict.fromkeys(RunState, 0) | dict(counted)
    waiting = {queue: dispatch.waiting(queue) for queue in (dispatch.CPU, dispatch.GPU)}
    own = CollectorRegistry()
    for name, help_text, values in (
        ("audit_runs", "Runs by state.", {("state", state.value): n for state, n in runs.items()}),
        ("audit_waiting_messages", "Messages that no worker has taken.", {("queue", q): n for q, n in waiting.items()}),
    ):
        gauge = Gauge(name, help_text, [next(iter(values))[0]], registry=own)
        for (_, label), value in values.items():
            gauge.labels(label).set(value)
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
