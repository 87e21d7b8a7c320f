"""/v1/runs/{id}/events: what happens to a run, as server-sent events; and /v1/events: the organisation's log."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, NamedTuple

import anyio
from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from audit_service.audits import service
from audit_service.audits.schemas import Event
from audit_service.border.paging import ByNumber, Page, paged
from audit_service.border.routes import Guarded
from audit_service.border.schemas import Name, Uuid
from audit_service.border.transactions import Own, Reading
from audit_service.db.handles import Database
from audit_service.db.tables import EventRow
from audit_service.domain.lifecycle import ENDED, EventKind
from audit_service.events import repository
from audit_service.events.schemas import LogCheck, LogEntry
from audit_service.identity.authentication import Caller
from audit_service.problems import responses

router = APIRouter(tags=["events"], route_class=Guarded)

POLL_SECONDS = 0.5
LONGEST_SECONDS = 600
"""After so long a stream ends and the client comes back, so that a restart never waits for it."""


class _News(NamedTuple):
    events: list[Event]
    over: bool
    """Nothing more will come."""


def _existing_run(run_id: Uuid, database: Own) -> str:
    """Answers 404 before the stream begins."""
    with database.reading() as session:
        return service.run(session, run_id).id


@router.get("/runs/{run_id}/events", response_class=EventSourceResponse, responses=responses(404))
async def follow_run(
    run_id: Annotated[str, Depends(_existing_run)],
    database: Own,
    last_event_id: Annotated[
        int,
        Header(
            alias="Last-Event-ID", ge=0, le=2**63 - 1, description="Go on after this event; 0 begins with the first."
        ),
    ] = 0,
) -> AsyncIterator[ServerSentEvent]:
    """Follow a run. The stream ends when the run is completed, cancelled or failed, and after ten minutes.

    The event's name is its kind, its data an `Event`. A client that comes back with `Last-Event-ID` misses nothing.
    """
    seen = last_event_id
    deadline = anyio.current_time() + LONGEST_SECONDS
    while anyio.current_time() < deadline:
        news = await run_in_threadpool(_news, database, run_id, seen)
        for event in news.events:
            yield ServerSentEvent(data=event, event=event.kind.value, id=str(event.seq))
            seen = event.seq
        if news.over:
            return
        await anyio.sleep(POLL_SECONDS)


def _news(database: Database, run_id: str, seen: int) -> _News:
    """The state is read with the events in one view, so that the last event is never cut off."""
    with database.reading() as session:
        run = service.run(session, run_id)
        events = [Event.of(row) for row in repository.after(session, run_id, seq=seen)]
        return _News(events, over=run.state in ENDED and len(events) < repository.AT_ONCE)


@router.get("/events")
def list_events(
    session: Reading,
    paging: ByNumber,
    kind: Annotated[EventKind | None, Query(description="Only events of this kind.")] = None,
    actor: Annotated[Name | None, Query(description="Only what this one did.")] = None,
    run_id: Annotated[Uuid | None, Query(description="Only what happened to this run.")] = None,
) -> Page[LogEntry]:
    """The organisation's event log, oldest first."""
    query = repository.events(kind=kind, actor=actor, run_id=run_id)
    return paged(session, query, paging, key=EventRow.number).page(LogEntry)


@router.get(
    "/events/export",
    response_class=StreamingResponse,
    responses={200: {"description": "One entry a line.", "content": {"application/x-ndjson": {"schema": {}}}}},
)
def export_events(database: Own, caller: Caller) -> StreamingResponse:
    """The whole log as it can be checked by anybody: `audit-service check-log FILE`."""

    def lines() -> Iterator[bytes]:
        with database.reading() as session:
            for row in repository.chain(session, caller.organisation_id):
                yield json.dumps(repository.entry(row), ensure_ascii=False).encode() + b"\n"

    headers = {"Content-Disposition": 'attachment; filename="events.ndjson"'}
    return StreamingResponse(lines(), media_type="application/x-ndjson", headers=headers)


@router.get("/events/check")
def check_events(session: Reading, caller: Caller) -> LogCheck:
    """Compute every digest of the log again, and name the first entry that does not hold."""
    found = repository.broken(session, caller.organisation_id)
    entries, last = repository.length(session, caller.organisation_id)
    return LogCheck(
        entries=entries, digest=last, broken_at=found.number if found else None, why=found.why if found else None
    )
