"""Putting on record what is in use where."""

from datetime import UTC, datetime

from sqlalchemy import Select, select

from audit_service.db import locks
from audit_service.db.base import Ensured
from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.queries import narrowed
from audit_service.db.tables import DeploymentRow, ModelRow, ModelVersionRow
from audit_service.deployments.schemas import DeploymentCreate
from audit_service.domain.lifecycle import EventKind
from audit_service.errors import Conflict, InvalidInput, NotFound
from audit_service.events import repository as events
from audit_service.registry import service as registry


def record(session: WriteSession, wanted: DeploymentCreate, *, by: str) -> Ensured[DeploymentRow]:
    """The version is in use at the place from then on; what is in use there already stays the row that it is.

    Raises:
        NotFound: there is no such version.
        InvalidInput: it is not in use yet.
        Conflict: another version of the model is in use there.
    """
    version, now = registry.version(session, wanted.model_version_id), datetime.now(UTC)
    if wanted.since is not None and wanted.since > now:
        raise InvalidInput("It is not in use yet.", remedy="Put it on record when it is.")
    _alone(session, version)
    present = session.scalars(in_use(version.model_id).where(DeploymentRow.place == wanted.place)).first()
    if present is not None and present.model_version_id != version.id:
        raise Conflict(
            f"Version {present.version} is in use at {wanted.place!r}.",
            remedy=f"End that first: POST /v1/deployments/{present.id}/end.",
        )
    if present is not None:
        return Ensured(present, is_new=False)
    row = DeploymentRow(of=version, place=wanted.place, since=wanted.since or now, recorded_by=by)
    session.add(row)
    session.flush()
    return Ensured(row, is_new=True)


def end(session: WriteSession, deployment_id: str, *, by: str) -> DeploymentRow:
    """The version is no longer in use there; a second time changes nothing."""
    row = deployment(session, deployment_id)
    _alone(session, row.of)
    session.refresh(row)
    if row.ended_at is None:
        row.ended_at = datetime.now(UTC)
        session.flush()
        data = {"id": row.id, "place": row.place, "what": "ended"}
        events.append(session, None, EventKind.DEPLOYMENT, actor=by, data=data)
    return row


def _alone(session: WriteSession, version: ModelVersionRow) -> None:
    """Two versions of a model must not come to be in use at one place at once."""
    locks.hold(session, f"deployments/{version.model_id}")


def deployment(session: ReadSession, deployment_id: str) -> DeploymentRow:
    if (row := session.get(DeploymentRow, deployment_id)) is None:
        raise NotFound(f"There is no deployment {deployment_id}.", remedy="List them with GET /v1/deployments.")
    return row


def deployments(*, model: str | None = None) -> Select[DeploymentRow]:
    return narrowed(_of_model(select(DeploymentRow)), {ModelRow.name: model})


def in_use(model_id: str) -> Select[DeploymentRow]:
    """Where versions of the model are in use now, by place."""
    query = _of_model(select(DeploymentRow)).where(ModelRow.id == model_id, DeploymentRow.ended_at.is_(None))
    return query.order_by(DeploymentRow.place, DeploymentRow.id)


def _of_model(query: Select[DeploymentRow]) -> Select[DeploymentRow]:
    versions = query.join(ModelVersionRow, ModelVersionRow.id == DeploymentRow.model_version_id)
    return versions.join(ModelRow, ModelRow.id == ModelVersionRow.model_id)
