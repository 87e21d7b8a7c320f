"""How schedules and their times stand at a moment; pure functions of their rows."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from audit_service.db.tables import OccurrenceRow, ScheduleRow
from audit_service.domain.lifecycle import RunState
from audit_service.domain.schedules import Occurrence, OccurrenceKind, OccurrenceState
from audit_service.schedules.schemas import Entry, Standing


def overdue_since(schedule: ScheduleRow, newest: OccurrenceRow | None, now: datetime) -> datetime | None:
    """The due time that passed, with its grace, without a completed run.

    Counted are what came last, and what the clock did not look at: it may stand still, or the schedule rest. What was
    retired is not waited for.
    """
    if schedule.retired_at is not None:
        return None
    grace = timedelta(hours=schedule.grace_hours)
    late = [newest.due_at] if newest is not None and is_overdue(newest, schedule, now) else []
    unseen = schedule.rule.within(schedule.cursor, now - grace) if schedule.rule else iter(())
    late += [one.due for one in (next(unseen, None),) if one is not None]
    return min(late, default=None)


def is_overdue(occurrence: OccurrenceRow, schedule: ScheduleRow, now: datetime) -> bool:
    grace = timedelta(hours=schedule.grace_hours)
    return standing(occurrence) is not Standing.COMPLETED and occurrence.due_at + grace <= now


def next_due(schedule: ScheduleRow, now: datetime) -> datetime | None:
    """When the rule names a time again; None without a rule, while the schedule rests, and once it is retired."""
    if schedule.rule is None or schedule.paused or schedule.retired_at is not None:
        return None
    return next((one.due for one in schedule.rule.times(schedule.cursor) if one.due > now), None)


def standing(occurrence: OccurrenceRow) -> Standing:
    if occurrence.state is OccurrenceState.REFUSED:
        return Standing.FAILED
    if occurrence.run is None:
        return Standing.DUE
    ended = {
        RunState.COMPLETED: Standing.COMPLETED,
        RunState.FAILED: Standing.FAILED,
        RunState.CANCELLED: Standing.FAILED,
    }
    return ended.get(occurrence.run.state, Standing.RUNNING)


def came(occurrence: OccurrenceRow, schedule: ScheduleRow, *, latest: bool, now: datetime) -> Entry:
    """A line for what came. Only the latest can be overdue: it stands for those before it."""
    return _entry(
        schedule,
        kind=occurrence.kind,
        time=Occurrence(occurrence.nominal_at, occurrence.due_at),
        standing=standing(occurrence),
        overdue=latest and schedule.retired_at is None and is_overdue(occurrence, schedule, now),
        collapsed=occurrence.collapsed,
        run_id=occurrence.run_id,
        reason=occurrence.reason,
    )


def to_come(schedule: ScheduleRow, since: datetime, until: datetime, now: datetime) -> Iterator[Entry]:
    """A line for each time of the rule that the clock has not looked at yet; none once it is retired."""
    grace = timedelta(hours=schedule.grace_hours)
    rule = schedule.rule if schedule.retired_at is None else None
    for time in rule.within(schedule.cursor, until) if rule else ():
        if time.due >= since:
            waiting = Standing.DUE if time.due <= now else Standing.UPCOMING
            yield _entry(
                schedule,
                kind=OccurrenceKind.TIME,
                time=time,
                standing=Standing.PAUSED if schedule.paused else waiting,
                overdue=time.due + grace <= now,
            )


def _entry(
    schedule: ScheduleRow,
    *,
    kind: OccurrenceKind,
    time: Occurrence,
    standing: Standing,
    overdue: bool,
    collapsed: int = 0,
    run_id: str | None = None,
    reason: str | None = None,
) -> Entry:
    return Entry(
        schedule_id=schedule.id,
        schedule=schedule.name,
        model=schedule.model.name,
        behavior=schedule.behavior.name,
        kind=kind,
        nominal_at=time.nominal,
        due_at=time.due,
        standing=standing,
        overdue=overdue,
        collapsed=collapsed,
        run_id=run_id,
        reason=reason,
    )
