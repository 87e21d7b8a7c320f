"""/v1/runs/{id}/events: what happens to a run, as server-sent events."""

from collections.abc import AsyncIterator
from typing import Annotated, NamedTuple

import anyio
from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from audit_service.audits import service
from audit_service.audits.schemas import Event
from audit_service.border.schemas import Uuid
from audit_service.border.transactions import Own
from audit_service.db.handles import Database
from audit_service.domain.lifecycle import ENDED
from audit_service.events import repository
from audit_service.problems import responses

router = APIRouter(prefix="/runs", tags=["runs"])

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


@router.get("/{run_id}/events", response_class=EventSourceResponse, responses=responses(404))
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
