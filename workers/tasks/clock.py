"""The clock's ticks: what is due, what is to be told, what is new elsewhere. Every tick may come twice or late."""

import logging
from datetime import UTC, datetime

from audit_service.border import idempotency
from audit_service.db.tables import OccurrenceRow
from audit_service.dispatch import Task
from audit_service.errors import AuditError, Unavailable
from audit_service.modelimports import service as imports
from audit_service.notifications import service as notifications
from audit_service.registry import mlflow
from audit_service.schedules import clock
from audit_service.schedules import service as schedules
from audit_service.settings import get_settings
from workers.runtime import runtime
from workers.tasks.base import task

log = logging.getLogger(__name__)


@task(Task.TICK)
def tick() -> None:
    """Write down what has come by now, and ask again for what was lost."""
    worker, now = runtime(), datetime.now(UTC)
    clock.tick(worker.database, now)
    with worker.database.writing() as session:
        imports.ask_again(session, now)


@task(Task.DELIVER)
def deliver() -> None:
    """Tell what is to be told."""
    notifications.deliver_due(runtime().database, get_settings(), now=lambda: datetime.now(UTC))


@task(Task.REVALIDATE)
def revalidate(occurrence_id: str) -> None:
    """Start the run of an occurrence that is due, or write down why it cannot be."""
    database = runtime().of(OccurrenceRow, occurrence_id).database
    try:
        with database.writing() as session:
            schedules.start(session, occurrence_id)
    except Unavailable as error:
        log.warning("occurrence %s waits: %s", occurrence_id, error)  # the clock asks again
    except AuditError as error:
        with database.writing() as session:
            schedules.refuse(session, occurrence_id, reason=str(error))


@task(Task.TIDY)
def tidy() -> None:
    """Forget the idempotency keys that are old enough."""
    with runtime().database.writing() as session:
        idempotency.forget(session, datetime.now(UTC))


@task(Task.POLL)
def poll() -> None:
    """Ask the MLflow registry for new versions of the models that are registered here."""
    settings = get_settings()
    if settings.mlflow_uri is None:
        return
    database = runtime().database.acting_for(imports.organisation(settings))
    with database.reading() as session:
        followed = imports.followed(session)
    for name in followed:
        for version in mlflow.versions(settings.mlflow_uri, name):
            with database.writing() as session:
                imports.arrived(session, name, version, by="mlflow:poll")
