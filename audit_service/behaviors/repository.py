"""Queries on behaviors and their versions."""

from sqlalchemy import Select, func, select
from sqlalchemy.dialects.postgresql import insert

from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.queries import narrowed
from audit_service.db.tables import BehaviorRow, BehaviorVersionRow


def versions(*, name: str | None = None) -> Select[BehaviorVersionRow]:
    return narrowed(select(BehaviorVersionRow).join(BehaviorVersionRow.behavior), {BehaviorRow.name: name})


def version_with(session: ReadSession, *, behavior_id: str, digest: str) -> BehaviorVersionRow | None:
    query = select(BehaviorVersionRow).where(
        BehaviorVersionRow.behavior_id == behavior_id, BehaviorVersionRow.digest == digest
    )
    return session.scalars(query).one_or_none()


def newest_number(session: ReadSession, behavior_id: str) -> int:
    """0 where there is no version yet."""
    query = select(func.max(BehaviorVersionRow.number)).where(BehaviorVersionRow.behavior_id == behavior_id)
    return session.scalar(query) or 0


def ensure_behavior(session: WriteSession, name: str) -> BehaviorRow:
    """The behavior of that name, made if new and locked, so that version numbers follow each other."""
    session.execute(insert(BehaviorRow).values(name=name).on_conflict_do_nothing())
    return session.scalars(select(BehaviorRow).where(BehaviorRow.name == name).with_for_update()).one()
