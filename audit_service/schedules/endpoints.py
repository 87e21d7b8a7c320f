"""/v1/schedules, their occurrences and the calendar."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime

from audit_service.border.idempotency import Idempotent
from audit_service.border.paging import Page, Paging, paged, sortable
from audit_service.border.preconditions import IfMatch, check, tagged
from audit_service.border.routes import Guarded
from audit_service.border.schemas import Body, Name, Uuid
from audit_service.border.transactions import Actor, Reading, Writing
from audit_service.db.base import Ensured
from audit_service.db.handles import ReadSession
from audit_service.db.tables import BehaviorRow, ModelRow, OccurrenceRow, ScheduleRow
from audit_service.problems import CHANGES, WITH_BODY, responses
from audit_service.schedules import repository, service
from audit_service.schedules.schemas import Entry, Occurrence, Schedule, ScheduleChange, ScheduleCreate

router = APIRouter(tags=["schedules"], route_class=Guarded)

_Since = Annotated[AwareDatetime | None, Query(description="Thirty days ago if left out.")]
_Until = Annotated[AwareDatetime | None, Query(description="Ninety days from now if left out.")]


def _shown(session: ReadSession, row: ScheduleRow) -> Schedule:
    [shown] = service.shown(session, [row], now=datetime.now(UTC))
    return shown


@router.post("/schedules", status_code=201, responses=responses(*WITH_BODY, 404, 409, existing=Schedule))
def make_schedule(body: Body[ScheduleCreate], session: Writing, actor: Actor, once: Idempotent) -> Schedule:
    """Let the accepted audit of a behavior on a model be repeated at given times, on every new version, or both.

    The same terms under the same name give the schedule that is there (200).
    """

    def make() -> Ensured[Schedule]:
        made = service.make(session, body, by=actor, now=datetime.now(UTC))
        return Ensured(_shown(session, made.row), made.is_new)

    return once.answer(session, Schedule, make)


@router.get("/schedules")
def list_schedules(  # noqa: PLR0917 - FastAPI names them
    session: Reading,
    paging: Annotated[Paging, sortable(name=ScheduleRow.name, model=ModelRow.name, behavior=BehaviorRow.name)],
    name: Annotated[Name | None, Query(description="Only those of this name.")] = None,
    model: Annotated[Name | None, Query(description="Only of the model of this name.")] = None,
    behavior: Annotated[Name | None, Query(description="Only of the behavior of this name.")] = None,
    retired: Annotated[bool, Query(description="Those that were retired, too.")] = False,
) -> Page[Schedule]:
    """The schedules with what is due next and since when they are overdue, newest first."""
    query = repository.schedules(name=name, model=model, behavior=behavior, retired=retired)
    found = paged(session, query, paging, key=ScheduleRow.id)
    return Page(items=service.shown(session, found.rows, now=datetime.now(UTC)), next=found.next)


@router.get("/schedules/calendar")
def show_calendar(session: Reading, since: _Since = None, until: _Until = None) -> list[Entry]:
    """What came, what is due, overdue and upcoming, by due time; at most 400 days."""
    now = datetime.now(UTC)
    first = since or now - timedelta(days=30)
    return service.calendar(session, since=first, until=until or now + timedelta(days=90), now=now)


@router.get("/schedules/{schedule_id}", responses=responses(404))
def get_schedule(schedule_id: Uuid, session: Reading, response: Response) -> Schedule:
    """One schedule. Its ETag is another as soon as it is changed, due next at another time, or overdue."""
    return tagged(response, _shown(session, service.schedule(session, schedule_id)))


@router.patch("/schedules/{schedule_id}", responses=responses(*WITH_BODY, *CHANGES, 404, 409))
def change_schedule(  # noqa: PLR0917 - FastAPI names them
    schedule_id: Uuid,
    body: Body[ScheduleChange],
    session: Writing,
    actor: Actor,
    response: Response,
    if_match: IfMatch = None,
) -> Schedule:
    """Give it another name or other terms from now on; what came until now is still due.

    Another model or behavior needs another schedule.
    """
    check(_shown(session, service.schedule(session, schedule_id, lock=True)), if_match)
    changed = service.change(session, schedule_id, body, by=actor, now=datetime.now(UTC))
    return tagged(response, _shown(session, changed))


@router.delete("/schedules/{schedule_id}", responses=responses(404))
def retire_schedule(schedule_id: Uuid, session: Writing, actor: Actor) -> Schedule:
    """Retire a schedule: nothing comes of it any more, and its name is free. What came of it stays on record."""
    return _shown(session, service.retire(session, schedule_id, by=actor, now=datetime.now(UTC)))


@router.post("/schedules/{schedule_id}/pause", responses=responses(404, 409))
def pause_schedule(schedule_id: Uuid, session: Writing, actor: Actor) -> Schedule:
    """Start nothing of it until it is resumed. Its times still come, and are overdue."""
    return _shown(session, service.pause(session, schedule_id, by=actor))


@router.post("/schedules/{schedule_id}/resume", responses=responses(404, 409))
def resume_schedule(schedule_id: Uuid, session: Writing, actor: Actor) -> Schedule:
    """Go on from now; what came meanwhile is not caught up."""
    return _shown(session, service.resume(session, schedule_id, by=actor, now=datetime.now(UTC)))


@router.get("/schedules/{schedule_id}/occurrences", responses=responses(404))
def list_occurrences(
    schedule_id: Uuid,
    session: Reading,
    paging: Annotated[Paging, sortable(due=OccurrenceRow.due_at, state=OccurrenceRow.state)],
) -> Page[Occurrence]:
    """The times that came and the new versions, newest first."""
    query = repository.occurrences(service.schedule(session, schedule_id).id)
    return paged(session, query, paging, key=OccurrenceRow.id).page(Occurrence)


@router.post("/occurrences/{occurrence_id}/retry", responses=responses(404, 409))
def retry_occurrence(occurrence_id: Uuid, session: Writing, actor: Actor) -> Occurrence:
    """Try again to start what was refused."""
    return Occurrence.of(service.retry(session, occurrence_id, by=actor, now=datetime.now(UTC)))
