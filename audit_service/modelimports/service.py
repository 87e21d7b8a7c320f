"""Asking for model versions of MLflow, and registering what was fetched."""

from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import Select, select
from sqlalchemy.dialects.postgresql import insert

from audit_service import dispatch
from audit_service.db.base import Ensured
from audit_service.db.handles import ReadSession, WriteSession, whom
from audit_service.db.queries import narrowed
from audit_service.db.tables import ImportRow, ModelRow, ModelVersionRow
from audit_service.domain.lifecycle import EventKind, ImportState
from audit_service.domain.notifications import Topic
from audit_service.errors import Conflict, InvalidInput
from audit_service.events import repository as events
from audit_service.identity.bootstrap import FIRST_ORGANISATION
from audit_service.modelimports.schemas import ImportCreate, MlflowEvent
from audit_service.notifications import service as notifications
from audit_service.registry import repository as registry_rows
from audit_service.registry import service as registry
from audit_service.registry.schemas import Dtype, ModelVersionCreate
from audit_service.settings import Settings, get_settings

MLFLOW = "mlflow"
"""Who brings what was asked for."""


def organisation(settings: Settings) -> str:
    """Whose the registry's models are. The service reads it with its own credentials, so nobody else reaches it."""
    return settings.mlflow_organisation or FIRST_ORGANISATION


def ask(session: WriteSession, wanted: ImportCreate, *, by: str) -> Ensured[ImportRow]:
    """Have the version fetched and registered, once. One that was refused is tried again.

    Raises:
        Conflict: the service knows no MLflow, or that of another organisation.
        BrokerDown: nobody can be asked.
    """
    settings = get_settings()
    if settings.mlflow_uri is None or whom(session).organisation_id != organisation(settings):
        raise Conflict("The service follows no MLflow registry for this organisation.", remedy="Set AUDIT_MLFLOW_URI.")
    now = datetime.now(UTC)
    values = {"name": wanted.name, "version": wanted.version, "dtype": wanted.dtype.value}
    added = session.execute(
        insert(ImportRow).values(**values, asked_by=by, asked_at=now).on_conflict_do_nothing().returning(ImportRow.id)
    ).first()
    query = select(ImportRow).where(ImportRow.name == wanted.name, ImportRow.version == wanted.version)
    row = session.scalars(query.with_for_update()).one()
    if added is not None or row.state is ImportState.REFUSED:
        row.state, row.reason, row.asked_at, row.dtype = ImportState.QUEUED, None, now, wanted.dtype.value
        dispatch.enqueue(session, dispatch.Task.IMPORT, row.id)
        _note(session, row, "asked", by=by)
    return Ensured(row, is_new=added is not None)


def arrived(session: WriteSession, name: str, version: str, *, by: str) -> ImportRow | None:
    """Import a new version of a model that is registered here, in the format of its newest one; else nothing."""
    newest = session.scalars(registry_rows.versions(name=name).order_by(ModelVersionRow.created_at.desc())).first()
    known = select(ImportRow).where(ImportRow.name == name, ImportRow.version == version)
    if newest is None:
        return None
    if (present := session.scalars(known).one_or_none()) is not None:
        return present
    wanted = ImportCreate(name=name, version=version, dtype=Dtype(newest.identity.dtype))
    return ask(session, wanted, by=by).row


def received(session: WriteSession, body: bytes) -> ImportRow | None:
    """What an MLflow webhook tells, whose signature was checked."""
    try:
        event = MlflowEvent.model_validate_json(body)
    except ValidationError as error:
        raise InvalidInput("The body is no event of MLflow.", remedy="Send MLflow 3's registry webhooks.") from error
    if (event.entity, event.action) != ("model_version", "created") or event.data is None:
        return None
    return arrived(session, event.data.name, str(event.data.version), by="mlflow:webhook")


def followed(session: ReadSession) -> list[str]:
    """Names of the models whose new versions are looked for."""
    return list(session.scalars(select(ModelRow.name).order_by(ModelRow.name)))


def ask_again(session: WriteSession, now: datetime) -> None:
    """Send lost messages again; who works on one meanwhile is not disturbed."""
    lost = ImportRow.asked_at < now - dispatch.ASK_AGAIN
    query = select(ImportRow).where(ImportRow.state == ImportState.QUEUED, lost)
    for row in session.scalars(query.with_for_update(skip_locked=True)):
        row.asked_at = now
        dispatch.enqueue(session, dispatch.Task.IMPORT, row.id)


def imports(*, name: str | None = None, state: ImportState | None = None) -> Select[ImportRow]:
    return narrowed(select(ImportRow), {ImportRow.name: name, ImportRow.state: state})


def save(session: WriteSession, import_id: str, folder: Path) -> None:
    """Register the fetched folder; the second time it is registered already."""
    row = session.get_one(ImportRow, import_id, with_for_update=True)
    wanted = ModelVersionCreate(name=row.name, version=row.version, path=str(folder), dtype=Dtype(row.dtype))
    row.model_version_id = registry.register(session, wanted).row.id
    row.state, row.reason = ImportState.DONE, None
    _note(session, row, "registered", by=MLFLOW)


def refuse(session: WriteSession, import_id: str, *, reason: str) -> None:
    """Write down why it cannot be registered, and tell it."""
    row = session.get_one(ImportRow, import_id, with_for_update=True)
    row.state, row.reason = ImportState.REFUSED, reason
    data = {"model": row.name, "version": row.version, "reason": reason}
    subject = f"Not imported from MLflow: {row.name} {row.version}"
    notifications.publish(session, Topic.IMPORT_REFUSED, subject=subject, data=data)
    _note(session, row, "refused", by=MLFLOW)


def _note(session: WriteSession, row: ImportRow, what: str, *, by: str) -> None:
    named = {"id": row.id, "name": row.name, "version": row.version, "what": what}
    data = {**named, "reason": row.reason, "model_version": row.model_version_id}
    events.append(session, None, EventKind.IMPORT, actor=by, data=data)
