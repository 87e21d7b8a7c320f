"""Queries on schedules and the times that came."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Select, exists, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import joinedload

from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.queries import narrowed
from audit_service.db.tables import BehaviorRow, ModelRow, ModelVersionRow, OccurrenceRow, ScheduleRow
from audit_service.domain.schedules import OccurrenceState


def schedules(
    *, name: str | None = None, model: str | None = None, behavior: str | None = None, retired: bool = False
) -> Select[ScheduleRow]:
    """Those in force, or with those that were retired."""
    query = select(ScheduleRow).join(ScheduleRow.model).join(ScheduleRow.behavior)
    query = query if retired else query.where(ScheduleRow.retired_at.is_(None))
    return narrowed(query, {ScheduleRow.name: name, ModelRow.name: model, BehaviorRow.name: behavior})


def named(session: ReadSession, name: str) -> ScheduleRow | None:
    """The schedule in force of that name."""
    return session.scalars(schedules(name=name)).one_or_none()


def model_named(session: ReadSession, name: str) -> ModelRow | None:
    return session.scalars(select(ModelRow).where(ModelRow.name == name)).one_or_none()


def behavior_named(session: ReadSession, name: str) -> BehaviorRow | None:
    return session.scalars(select(BehaviorRow).where(BehaviorRow.name == name)).one_or_none()


def free(session: WriteSession, schedule_id: str) -> ScheduleRow | None:
    """The schedule, held until the transaction ends; None if it rests, has ended, or another clock looks at it now."""
    query = schedules().where(ScheduleRow.id == schedule_id, ~ScheduleRow.paused)
    return session.scalars(query.with_for_update(skip_locked=True, of=ScheduleRow)).one_or_none()


def occurrences(schedule_id: str) -> Select[OccurrenceRow]:
    return select(OccurrenceRow).where(OccurrenceRow.schedule_id == schedule_id)


def newest(session: ReadSession, schedules: Sequence[ScheduleRow]) -> Mapping[str, OccurrenceRow]:
    """Schedule id → what came last."""
    query = (
        select(OccurrenceRow)
        .where(OccurrenceRow.schedule_id.in_([schedule.id for schedule in schedules]))
        .ext(distinct_on(OccurrenceRow.schedule_id))
        .order_by(OccurrenceRow.schedule_id, OccurrenceRow.due_at.desc(), OccurrenceRow.id.desc())
        .options(joinedload(OccurrenceRow.run))
    )
    return {row.schedule_id: row for row in session.scalars(query)}


def between(session: ReadSession, since: datetime, until: datetime) -> Sequence[OccurrenceRow]:
    """What came, by due time."""
    query = select(OccurrenceRow).where(OccurrenceRow.due_at >= since, OccurrenceRow.due_at <= until)
    return session.scalars(query.options(joinedload(OccurrenceRow.run))).all()


def versions_to_come(session: ReadSession, schedule: ScheduleRow) -> Sequence[ModelVersionRow]:
    """Versions that are new to the schedule, the oldest first."""
    seen = exists().where(
        OccurrenceRow.schedule_id == schedule.id, OccurrenceRow.model_version_id == ModelVersionRow.id
    )
    query = select(ModelVersionRow).where(
        ModelVersionRow.model_id == schedule.model_id, ModelVersionRow.created_at > schedule.watching_since, ~seen
    )
    return session.scalars(query.order_by(ModelVersionRow.created_at, ModelVersionRow.id)).all()


def unanswered(session: ReadSession, schedule_id: str, *, asked_before: datetime) -> Sequence[OccurrenceRow]:
    """What is due and nobody was asked about lately."""
    query = occurrences(schedule_id).where(
        OccurrenceRow.state == OccurrenceState.DUE,
        OccurrenceRow.asked_at.is_(None) | (OccurrenceRow.asked_at < asked_before),
    )
    return session.scalars(query.order_by(OccurrenceRow.due_at)).all()


def waiting(session: WriteSession, schedule_id: str) -> Sequence[OccurrenceRow]:
    """What is due and not started, held until the transaction ends, once nobody is at it."""
    query = occurrences(schedule_id).where(OccurrenceRow.state == OccurrenceState.DUE)
    return session.scalars(query.order_by(OccurrenceRow.due_at).with_for_update()).all()


def taken(session: WriteSession, occurrence_id: str) -> OccurrenceRow | None:
    """The occurrence if it is due still, held until the transaction ends; None if somebody is at it or was."""
    query = select(OccurrenceRow).where(OccurrenceRow.id == occurrence_id, OccurrenceRow.state == OccurrenceState.DUE)
    return session.scalars(query.with_for_update(skip_locked=True)).one_or_none()
