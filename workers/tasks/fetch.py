"""Fetch a model version from MLflow and register it."""

import logging

from audit_service.db.tables import ImportRow
from audit_service.dispatch import Task
from audit_service.domain.lifecycle import ImportState
from audit_service.errors import AuditError, Unavailable
from audit_service.modelimports import service as imports
from audit_service.registry import mlflow
from audit_service.settings import get_settings
from workers.runtime import runtime
from workers.tasks.base import alone, task

log = logging.getLogger(__name__)


@task(Task.IMPORT)
def fetch(import_id: str) -> None:
    """Download the version and register its folder, unless that is done or somebody is at it."""
    worker, settings = runtime().of(ImportRow, import_id), get_settings()
    with alone(worker, import_id) as session:
        if session is None or settings.mlflow_uri is None:
            return
        row = session.get_one(ImportRow, import_id)
        if row.state is not ImportState.QUEUED:
            return
        models = (settings.models_dir or settings.data_dir / "models") / row.organisation_id
        try:
            folder = mlflow.fetch(settings.mlflow_uri, row.name, row.version, models=models)
            with worker.database.writing() as writing:
                imports.save(writing, import_id, folder)
        except Unavailable as error:
            log.warning("import %s waits: %s", import_id, error)  # the clock asks again
        except AuditError as error:
            with worker.database.writing() as writing:
                imports.refuse(writing, import_id, reason=str(error))
