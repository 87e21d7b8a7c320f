"""Schedules: making them, resting them, the calendar, and starting what is due."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from audit_service import dispatch
from audit_service.db import locks
from audit_service.db.base import Ensured
from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.tables import OccurrenceRow, ScheduleRow
from audit_service.domain.notifications import Topic
from audit_service.domain.schedules import OccurrenceState
from audit_service.errors import Conflict, InvalidInput, NotFound
from audit_service.registry import service as registry
from audit_service.revalidation import repository as revalidations
from audit_service.revalidation import service as revalidation
from audit_service.schedules import clock, log, repository, standing
from audit_service.schedules.schemas import Entry, Schedule, ScheduleChange, ScheduleCreate

LONGEST_DAYS = 400
"""Of a calendar."""


def make(session: WriteSession, wanted: ScheduleCreate, *, by: str, now: datetime) -> Ensured[ScheduleRow]:
    """A schedule that begins now; the same terms under the same name give the one that is there.

    Raises:
        NotFound: there is no such model or behavior.
        Conflict: the name stands for other terms.
    """
    model = repository.model_named(session, wanted.model)
    behavior = repository.behavior_named(session, wanted.behavior)
    if model is None or behavior is None:
        missing = f"model {wanted.model!r}" if model is None else f"behavior {wanted.behavior!r}"
        raise NotFound(f"There is no {missing}.", remedy="Register it, audit it, and accept a run first.")
    locks.hold(session, f"schedule/{wanted.name}")
    terms = {
        "model_id": model.id,
        "behavior_id": behavior.id,
        "rule": wanted.rule,
        "on_new_version": wanted.on_new_version,
        "grace_hours": wanted.grace_hours,
    }
    if (present := repository.named(session, wanted.name)) is not None:
        if any(getattr(present, name) != value for name, value in terms.items()):
            raise Conflict(f"The schedule {wanted.name!r} has other terms.", remedy="Take another name.")
        return Ensured(present, is_new=False)
    row = ScheduleRow(name=wanted.name, cursor=now, watching_since=now, created_by=by, **terms)
    row.model, row.behavior = model, behavior
    session.add(row)
    session.flush()
    return Ensured(row, is_new=True)


def schedule(session: ReadSession, schedule_id: str, *, lock: bool = False) -> ScheduleRow:
    """One schedule; held against the clock and other changes until the transaction ends if asked for."""
    held = {"of": ScheduleRow} if lock else None
    if (row := session.get(ScheduleRow, schedule_id, with_for_update=held, populate_existing=lock)) is None:
        raise NotFound(f"There is no schedule {schedule_id}.", remedy="List them with GET /v1/schedules.")
    return row


def shown(session: ReadSession, rows: Sequence[ScheduleRow], *, now: datetime) -> list[Schedule]:
    """Schedules with how they stand now."""
    newest = repository.newest(session, rows)
    return [
        Schedule(
            id=row.id,
            name=row.name,
            model=row.model.name,
            behavior=row.behavior.name,
            rule=row.rule,
            on_new_version=row.on_new_version,
            grace_hours=row.grace_hours,
            paused=row.paused,
            next_due=standing.next_due(row, now),
            overdue_since=standing.overdue_since(row, newest.get(row.id), now),
            retired_at=row.retired_at,
            created_by=row.created_by,
            created_at=row.created_at,
        )
        for row in rows
    ]


def overdue(session: ReadSession, *, now: datetime) -> int:
    """How many schedules are overdue."""
    rows = session.scalars(repository.schedules()).all()
    newest = repository.newest(session, rows)
    return sum(standing.overdue_since(row, newest.get(row.id), now) is not None for row in rows)


def change(session: WriteSession, schedule_id: str, wanted: ScheduleChange, *, by: str, now: datetime) -> ScheduleRow:
    """Give it other terms from now on. What came until now under the old ones is still due.

    Raises:
        InvalidInput: nothing would make it due any more.
        Conflict: it is retired, or the name is another's.
        BrokerDown: something is due, and nobody can be asked.
    """
    row = _in_force(session, schedule_id)
    before = _terms(row)
    to = {name: getattr(wanted, name) for name in wanted.model_fields_set if getattr(wanted, name) != before[name]}
    if not to:
        return row
    if (before | to)["rule"] is None and not (before | to)["on_new_version"]:
        raise InvalidInput("Nothing would make it due any more.", remedy="Keep a rule or on_new_version, or pause it.")
    if "name" in to:
        _claim(session, wanted.name)
    if not row.paused:
        clock.turn(session, row, now)
    row.cursor = now if "rule" in to else row.cursor
    row.watching_since = now if "on_new_version" in to else row.watching_since
    for name, value in to.items():
        setattr(row, name, value)
    session.flush()
    log.note(session, row, "changed", by=by, **{"from": _plain(before, to), "to": _plain(to, to)})
    return row


def _claim(session: WriteSession, name: str) -> None:
    """Hold the name for this transaction. Raises Conflict if a schedule in force has it."""
    locks.hold(session, f"schedule/{name}")
    if repository.named(session, name) is not None:
        raise Conflict(f"There is a schedule {name!r}.", remedy="Take another name.")


def _terms(row: ScheduleRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ScheduleChange.model_fields}


def _plain(terms: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return ScheduleChange.model_validate({name: terms[name] for name in names}).model_dump(
        mode="json", include={*names}
    )


def _in_force(session: WriteSession, schedule_id: str) -> ScheduleRow:
    """The schedule, held until the transaction ends. Raises Conflict if it is retired."""
    row = schedule(session, schedule_id, lock=True)
    if row.retired_at is not None:
        raise Conflict(f"The schedule {row.name!r} is retired.", remedy="Make a new one; its name is free.")
    return row


def retire(session: WriteSession, schedule_id: str, *, by: str, now: datetime) -> ScheduleRow:
    """End it for good: nothing comes of it any more, and its name is free. What came of it stays on record.

    What is due and was not started is refused; a run that was started goes on. A second time changes nothing.
    """
    row = schedule(session, schedule_id, lock=True)
    if row.retired_at is None:
        for occurrence in repository.waiting(session, row.id):
            occurrence.state, occurrence.reason = OccurrenceState.REFUSED, "The schedule was retired."
            log.note_occurrence(session, occurrence, "refused", by=by)
        row.retired_at = now
        session.flush()
        log.note(session, row, "retired", by=by)
    return row


def pause(session: WriteSession, schedule_id: str, *, by: str) -> ScheduleRow:
    """Let it rest: nothing of it is started until it is resumed. Its times still count as overdue."""
    row = _in_force(session, schedule_id)
    if not row.paused:
        row.paused = True
        log.note(session, row, "paused", by=by)
    return row


def resume(session: WriteSession, schedule_id: str, *, by: str, now: datetime) -> ScheduleRow:
    """Go on from now. What came while it rested is not caught up: somebody wanted it not to be done."""
    row = _in_force(session, schedule_id)
    if row.paused:
        row.paused, row.cursor, row.watching_since = False, now, now
        log.note(session, row, "resumed", by=by)
    return row


def calendar(session: ReadSession, *, since: datetime, until: datetime, now: datetime) -> list[Entry]:
    """What came and what will come, by due time. What is overdue is shown however old it is.

    Raises InvalidInput for a span that is empty or too long.
    """
    if not 0 <= (until - since).days <= LONGEST_DAYS or until < since:
        raise InvalidInput(
            f"The calendar shows at most {LONGEST_DAYS} days.", remedy="Let `until` follow `since` within that."
        )
    rows = {row.id: row for row in session.scalars(repository.schedules(retired=True))}
    newest = repository.newest(session, list(rows.values()))
    late = {row.id: standing.overdue_since(row, newest.get(row.id), now) for row in rows.values()}
    first = min([since, *(due for due in late.values() if due is not None)])
    entries = [
        standing.came(row, rows[row.schedule_id], latest=row is newest.get(row.schedule_id), now=now)
        for row in repository.between(session, first, until)
    ]
    entries += [entry for row in rows.values() for entry in standing.to_come(row, first, until, now)]
    shown = (entry for entry in entries if entry.due_at >= since or entry.due_at == late[entry.schedule_id])
    return sorted(shown, key=lambda entry: (entry.due_at, entry.schedule))


def start(session: WriteSession, occurrence_id: str) -> None:
    """Start the run that is due, unless it was started, somebody is at it, or its schedule rests.

    Raises:
        Conflict: no run was accepted that could be repeated.
        AuditError: the plan cannot be made for the version; see ``revalidation.service.repeat``.
    """
    if (occurrence := repository.taken(session, occurrence_id)) is None:
        return
    due = schedule(session, occurrence.schedule_id)
    if due.paused:
        return  # the clock asks again once it is resumed
    accepted = revalidations.accepted_last(session, model=due.model.name, behavior=due.behavior.name)
    if accepted is None:
        raise Conflict(
            f"No run of {due.behavior.name} on {due.model.name} was accepted, so there is nothing to repeat.",
            remedy="Audit a version, accept the run, then retry the occurrence.",
        )
    version = (
        registry.version(session, occurrence.model_version_id)
        if occurrence.model_version_id
        else revalidations.newest_version(session, due.model_id)
    )
    assert version is not None  # noqa: S101 - the accepted run has one
    made = revalidation.repeat(session, accepted, version, by=f"schedule:{due.name}")
    occurrence.state, occurrence.run_id = OccurrenceState.STARTED, made.run_id
    log.note_occurrence(session, occurrence, "started", by=log.CLOCK)


def refuse(session: WriteSession, occurrence_id: str, *, reason: str) -> None:
    """Write down why no run could be started, and tell it."""
    if (occurrence := repository.taken(session, occurrence_id)) is None:
        return
    occurrence.state, occurrence.reason = OccurrenceState.REFUSED, reason
    due = schedule(session, occurrence.schedule_id)
    more = {"due": occurrence.due_at.isoformat(), "reason": reason}
    log.tell(session, Topic.REVALIDATION_FAILED, due, subject=f"Could not be started: {due.name}", more=more)
    log.note_occurrence(session, occurrence, "refused", by=log.CLOCK)


def retry(session: WriteSession, occurrence_id: str, *, by: str, now: datetime) -> OccurrenceRow:
    """Try again to start what was refused.

    Raises:
        NotFound, Conflict: there is no such occurrence, it was not refused, or its schedule is retired.
        BrokerDown: nobody can be asked.
    """
    row = session.get(OccurrenceRow, occurrence_id, with_for_update=True)
    if row is None:
        raise NotFound(f"There is no occurrence {occurrence_id}.", remedy="List a schedule's occurrences.")
    if row.state is not OccurrenceState.REFUSED:
        raise Conflict(f"The occurrence is {row.state}.", remedy="Only one that was refused is tried again.")
    _in_force(session, row.schedule_id)
    row.state, row.reason, row.asked_at = OccurrenceState.DUE, None, now
    dispatch.enqueue(session, dispatch.Task.REVALIDATE, row.id)
    log.note_occurrence(session, row, "retried", by=by)
    return row
