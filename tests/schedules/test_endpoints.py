from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from audit_service.db.handles import Database
from audit_service.db.tables import ScheduleRow
from audit_service.schedules.clock import tick
from audit_service.schedules.schemas import Entry
from audit_service.schedules.table import shown
from tests.revalidation.made import accepted
from tests.service import Audit

WANTED = {
    "name": "quarterly",
    "model": "tiny",
    "behavior": "loan-denial-race",
    "rule": {"cron": "0 3 1 */3 *", "timezone": "Europe/Berlin", "jitter_minutes": 30, "seed": 5},
    "grace_hours": 48,
}


@pytest.fixture
def _audited(api: TestClient, audit: Audit, database: Database) -> None:
    accepted(api, database, audit.run()["id"])


@pytest.fixture
def made(api: TestClient, _audited: None) -> dict[str, Any]:
    answer = api.post("/v1/schedules", json=WANTED)
    assert answer.status_code == 201, answer.text
    schedule: dict[str, Any] = answer.json()
    return schedule


def test_a_schedule_says_when_it_is_due_next(api: TestClient, made: dict[str, Any]) -> None:
    assert {name: made[name] for name in WANTED} == WANTED
    assert (made["paused"], made["overdue_since"], made["on_new_version"]) == (False, None, True)
    assert datetime.fromisoformat(made["next_due"]) > datetime.now(UTC)
    assert api.get("/v1/schedules").json()["items"] == [made]
    assert api.get(f"/v1/schedules/{made['id']}").json() == made


def test_the_same_terms_again_are_the_same_schedule_and_others_need_another_name(
    api: TestClient, made: dict[str, Any]
) -> None:
    again = api.post("/v1/schedules", json=WANTED)
    assert (again.status_code, again.json()["id"]) == (200, made["id"])
    other = api.post("/v1/schedules", json=WANTED | {"grace_hours": 1})
    assert (other.status_code, other.json()["remedy"]) == (409, "Take another name.")


@pytest.mark.usefixtures("_audited")
@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"rule": {"cron": "* * * * *"}}, 422, "more than once an hour"),
        ({"rule": {"cron": "0 3 * * *", "timezone": "Mars/Base"}}, 422, "no time zone"),
        ({"rule": None, "on_new_version": False}, 422, "or both"),
        ({"model": "unknown"}, 404, "no model 'unknown'"),
        ({"behavior": "unknown"}, 404, "no behavior 'unknown'"),
    ],
)
def test_what_cannot_be_kept_is_refused(api: TestClient, change: dict[str, Any], status: int, said: str) -> None:
    answer = api.post("/v1/schedules", json=WANTED | change)
    assert answer.status_code == status
    assert said in answer.text
    assert api.get("/v1/schedules").json()["items"] == []


def test_a_pause_is_shown_and_ends(api: TestClient, made: dict[str, Any]) -> None:
    paused = api.post(f"/v1/schedules/{made['id']}/pause").json()
    assert (paused["paused"], paused["next_due"]) == (True, None)
    resumed = api.post(f"/v1/schedules/{made['id']}/resume").json()
    assert (resumed["paused"], resumed["next_due"]) == (False, made["next_due"])


def test_the_calendar_shows_what_came_and_what_will_come(
    api: TestClient, app: FastAPI, made: dict[str, Any], database: Database
) -> None:
    now = datetime.now(UTC)
    with database.writing() as session:
        session.get_one(ScheduleRow, made["id"]).cursor = now - timedelta(days=200)
    tick(app.state.database, now)
    span = {"since": (now - timedelta(days=180)).isoformat(), "until": (now + timedelta(days=180)).isoformat()}
    entries = [Entry.model_validate(one) for one in api.get("/v1/schedules/calendar", params=span).json()]
    first, *others = entries
    assert (first.standing, first.collapsed >= 1, first.schedule) == ("due", True, "quarterly")
    assert [one.standing for one in others] == ["upcoming"] * len(others)
    assert len(others) in {1, 2}
    assert all(one.due_at - one.nominal_at <= timedelta(minutes=30) for one in entries)
    [occurrence] = api.get(f"/v1/schedules/{made['id']}/occurrences").json()["items"]
    assert datetime.fromisoformat(occurrence["nominal_at"]) == first.nominal_at
    assert api.post(f"/v1/occurrences/{occurrence['id']}/retry").status_code == 409
    assert shown(entries).row_count == len(entries)


def test_a_calendar_without_end_is_refused(api: TestClient) -> None:
    span = {"since": "2026-01-01T00:00:00Z", "until": "2028-01-01T00:00:00Z"}
    answer = api.get("/v1/schedules/calendar", params=span)
    assert (answer.status_code, "at most 400 days" in answer.text) == (422, True)
