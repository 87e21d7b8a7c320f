"""The clock: what has come is written down once, and workers are asked for it until it is answered."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from audit_service import dispatch
from audit_service.db.handles import Database, WriteSession
from audit_service.db.tables import OccurrenceRow, ScheduleRow
from audit_service.domain.notifications import Topic
from audit_service.domain.schedules import OccurrenceKind
from audit_service.schedules import log, repository
from audit_service.schedules.standing import overdue_since


def tick(database: Database, now: datetime) -> None:
    """Look at every schedule that does not rest. To look twice, late, or with two clocks at once, changes nothing.

    Raises:
        BrokerDown: nobody can be asked; what has come is written down when it is back.
    """
    with database.reading() as session:
        due = select(ScheduleRow.id, ScheduleRow.organisation_id)
        found = session.execute(due.where(~ScheduleRow.paused, ScheduleRow.retired_at.is_(None))).all()
    for schedule_id, organisation_id in found:
        with database.acting_for(organisation_id).writing() as session:
            if (schedule := repository.free(session, schedule_id)) is not None:
                turn(session, schedule, now)


def turn(session: WriteSession, schedule: ScheduleRow, now: datetime) -> None:
    """Write down what has come of a schedule that is held, have it done, and tell if it is overdue."""
    for come in (*_times(schedule, now), *_versions(session, schedule)):
        row = {"schedule_id": schedule.id, "organisation_id": schedule.organisation_id, **come}
        added = insert(OccurrenceRow).values(row).on_conflict_do_nothing().returning(OccurrenceRow)
        for occurrence in session.scalars(added):
            log.note_occurrence(session, occurrence, "due", by=log.CLOCK)
    for occurrence in repository.unanswered(session, schedule.id, asked_before=now - dispatch.ASK_AGAIN):
        occurrence.asked_at = now
        dispatch.enqueue(session, dispatch.Task.REVALIDATE, occurrence.id)
    _tell_if_overdue(session, schedule, now)


def _times(schedule: ScheduleRow, now: datetime) -> Iterator[dict[str, Any]]:
    """What the rule named since the last look, as one."""
    missed = schedule.rule.missed(schedule.cursor, now) if schedule.rule else None
    if missed is not None:
        schedule.cursor = missed.newest.nominal
        yield {
            "key": missed.newest.nominal.isoformat(),
            "kind": OccurrenceKind.TIME,
            "nominal_at": missed.newest.nominal,
            "due_at": missed.newest.due,
            "collapsed": missed.collapsed,
        }


def _versions(session: WriteSession, schedule: ScheduleRow) -> Iterator[dict[str, Any]]:
    """Each new version by itself: they are different models."""
    for version in repository.versions_to_come(session, schedule) if schedule.on_new_version else ():
        yield {
            "key": version.id,
            "kind": OccurrenceKind.VERSION,
            "nominal_at": version.created_at,
            "due_at": version.created_at,
            "model_version_id": version.id,
        }


def _tell_if_overdue(session: WriteSession, schedule: ScheduleRow, now: datetime) -> None:
    since = overdue_since(schedule, repository.newest(session, [schedule]).get(schedule.id), now)
    if since is None or since == schedule.overdue_told:
        return
    schedule.overdue_told = since
    more = {"overdue_since": since.isoformat()}
    log.tell(session, Topic.SCHEDULE_OVERDUE, schedule, subject=f"Overdue: {schedule.name}", more=more)
    log.note(session, schedule, "overdue", by=log.CLOCK, since=since.isoformat())
