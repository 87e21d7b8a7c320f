import json
import threading
import time

import httpx
import pytest
from fastapi.testclient import TestClient

from audit_service.audits import lifecycle
from audit_service.db.handles import Database
from audit_service.domain.lifecycle import EventKind, RunState
from audit_service.events import endpoints, repository
from tests.service import Audit, bearer

Seen = list[tuple[str, int, str]]


def move(database: Database, run_id: str, *states: RunState) -> None:
    for state in states:
        with database.writing() as session:
            lifecycle.move(session, run_id, state, by="worker:a")


def follow(url: str, token: str, run_id: str, *, after: int | None = None) -> Seen:
    """(event, id, state or kind) of everything that the stream says until it ends."""
    headers = bearer(token) | ({} if after is None else {"Last-Event-ID": str(after)})
    seen: Seen = []
    with httpx.stream("GET", f"{url}/v1/runs/{run_id}/events", headers=headers, timeout=20) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        for block in answer.read().decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
            if fields:
                data = json.loads(fields["data"])
                seen.append((fields["event"], int(fields["id"]), data["data"].get("to", data["kind"])))
    return seen


def test_the_stream_tells_what_was_and_what_comes_and_ends_with_the_run(
    url: str, token: str, audit: Audit, database: Database
) -> None:
    run_id = audit.run()["id"]
    seen: Seen = []
    thread = threading.Thread(target=lambda: seen.extend(follow(url, token, run_id)))
    thread.start()
    time.sleep(0.5)
    move(database, run_id, RunState.RUNNING)
    with database.writing() as session:
        repository.append(session, run_id, EventKind.PROGRESS, actor="worker:a", data={"done": 1, "total": 2})
    move(database, run_id, RunState.JUDGING, RunState.REPORTING, RunState.COMPLETED)
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert [what for _, _, what in seen] == [
        "queued",
        "running",
        "progress",
        "judging",
        "reporting",
        "completed",
    ]
    assert [event for event, _, _ in seen].count("state") == 5


def test_a_client_that_comes_back_goes_on_where_it_was(url: str, token: str, audit: Audit, database: Database) -> None:
    run_id = audit.run()["id"]
    move(database, run_id, RunState.RUNNING, RunState.PAUSED, RunState.CANCELLED)
    whole = follow(url, token, run_id)
    assert [what for _, _, what in whole] == ["queued", "running", "paused", "cancelled"]
    assert follow(url, token, run_id, after=whole[1][1]) == whole[2:]
    assert follow(url, token, run_id, after=whole[-1][1]) == []


def test_a_long_history_is_sent_in_full(
    url: str, token: str, audit: Audit, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "AT_ONCE", 3)
    monkeypatch.setattr(repository.after, "__kwdefaults__", {"limit": 3})
    run_id = audit.run()["id"]
    for _ in range(7):
        with database.writing() as session:
            repository.append(session, run_id, EventKind.PROGRESS, actor="worker:a", data={})
    move(database, run_id, RunState.FAILED)
    assert len(follow(url, token, run_id)) == 9


def test_a_stream_does_not_last_for_ever(url: str, token: str, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "LONGEST_SECONDS", 0.2)
    assert [what for _, _, what in follow(url, token, audit.run()["id"])] == ["queued"]


def test_a_run_that_is_not_there_is_404_before_the_stream_begins(api: TestClient) -> None:
    answer = api.get("/v1/runs/01936f5e-7c1a-7a3e-8f00-0242ac120002/events")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("mark", ["x", "-1", "1.5"])
def test_a_mark_that_is_no_number_is_refused(api: TestClient, audit: Audit, mark: str) -> None:
    run_id = audit.run()["id"]
    assert api.get(f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": mark}).status_code == 422
