"""What is written of schedules into the organisation's event log, and told to whoever wants to know."""

from audit_service.db.handles import WriteSession
from audit_service.db.tables import OccurrenceRow, ScheduleRow
from audit_service.domain.lifecycle import EventKind
from audit_service.domain.notifications import Topic
from audit_service.events import repository as events
from audit_service.notifications import service as notifications

CLOCK = "clock"
"""Who acts where only time has passed."""


def note(session: WriteSession, schedule: ScheduleRow, what: str, *, by: str, **more: object) -> None:
    """Append last: the chain's other writers wait until the transaction ends."""
    data = {"id": schedule.id, "name": schedule.name, "what": what, **more}
    events.append(session, None, EventKind.SCHEDULE, actor=by, data=data)


def note_occurrence(session: WriteSession, occurrence: OccurrenceRow, what: str, *, by: str) -> None:
    """What became of a time or a version that came."""
    due, run, reason = occurrence.due_at.isoformat(), occurrence.run_id, occurrence.reason
    note(session, occurrence.schedule, what, by=by, occurrence=occurrence.id, due=due, run=run, reason=reason)


def tell(session: WriteSession, topic: Topic, about: ScheduleRow, *, subject: str, more: dict[str, str]) -> None:
    """Tell something of a schedule to whoever wants to know."""
    named = {"schedule": about.name, "model": about.model.name, "behavior": about.behavior.name}
    notifications.publish(session, topic, subject=subject, data=named | more)
