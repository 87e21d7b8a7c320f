"""Queries on models and their versions."""

from sqlalchemy import Select, select
from sqlalchemy.dialects.postgresql import insert

from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.queries import narrowed
from audit_service.db.tables import ModelRow, ModelVersionRow


def models(*, name: str | None = None) -> Select[ModelRow]:
    return narrowed(select(ModelRow), {ModelRow.name: name})


def versions(*, name: str | None = None) -> Select[ModelVersionRow]:
    return narrowed(select(ModelVersionRow).join(ModelVersionRow.model), {ModelRow.name: name})


def version_labelled(session: ReadSession, *, model_id: str, version: str) -> ModelVersionRow | None:
    query = select(ModelVersionRow).where(ModelVersionRow.model_id == model_id, ModelVersionRow.version == version)
    return session.scalars(query).one_or_none()


def ensure_model(session: WriteSession, name: str) -> ModelRow:
    """The model of that name, made if new and locked, so that two registrations of it follow each other."""
    session.execute(insert(ModelRow).values(name=name).on_conflict_do_nothing())
    return session.scalars(select(ModelRow).where(ModelRow.name == name).with_for_update()).one()
