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


def test_terms_are_changed_from_the_state_that_was_read_and_never_from_another(
    api: TestClient, made: dict[str, Any]
) -> None:
    path, body = f"/v1/schedules/{made['id']}", {"grace_hours": 1}
    read = api.get(path).headers["ETag"]
    assert api.patch(path, json=body).status_code == 428
    changed = api.patch(path, json=body, headers={"If-Match": read})
    assert (changed.status_code, changed.json()) == (200, made | {"grace_hours": 1})
    assert api.patch(path, json={"grace_hours": 3}, headers={"If-Match": read}).status_code == 412
    assert api.get(path).headers["ETag"] == changed.headers["ETag"]
    assert [event["data"]["what"] for event in logged(api)] == ["changed"]


def test_a_schedule_gets_another_name_unless_one_in_force_has_it(api: TestClient, made: dict[str, Any]) -> None:
    api.post("/v1/schedules", json=WANTED | {"name": "monthly"})
    path, any_state = f"/v1/schedules/{made['id']}", {"If-Match": "*"}
    assert api.patch(path, json={"name": "monthly"}, headers=any_state).status_code == 409
    assert api.patch(path, json={"name": "yearly"}, headers=any_state).json() == made | {"name": "yearly"}
    for unnamed in ({"name": ""}, {"name": None}):
        assert api.patch(path, json=unnamed, headers=any_state).status_code == 422
    [change] = [event["data"] for event in logged(api)]
    assert (change["from"], change["to"]) == ({"name": "quarterly"}, {"name": "yearly"})


def test_a_retired_schedule_leaves_the_list_and_gives_its_name_back(api: TestClient, made: dict[str, Any]) -> None:
    path = f"/v1/schedules/{made['id']}"
    retired = api.delete(path).json()
    assert (retired["retired_at"] is not None, retired["next_due"]) == (True, None)
    assert api.delete(path).json() == retired
    assert api.patch(path, json={"grace_hours": 1}, headers={"If-Match": "*"}).status_code == 409
    again = api.post("/v1/schedules", json=WANTED)
    assert (again.status_code, again.json()["id"] == made["id"]) == (201, False)
    assert [one["id"] for one in api.get("/v1/schedules").json()["items"]] == [again.json()["id"]]
    every = api.get("/v1/schedules", params={"retired": True, "name": "quarterly"}).json()["items"]
    assert [one["id"] for one in every] == [again.json()["id"], made["id"]]
    assert api.get(path).json() == retired
    assert api.get("/v1/events/check").json()["broken_at"] is None


def test_a_schedule_that_nothing_makes_due_is_refused(api: TestClient, made: dict[str, Any]) -> None:
    path, any_state = f"/v1/schedules/{made['id']}", {"If-Match": "*"}
    changed = api.patch(path, json={"rule": None}, headers=any_state)
    assert (changed.status_code, changed.json()["next_due"]) == (200, None)
    assert api.patch(path, json={"on_new_version": False}, headers=any_state).status_code == 422
    assert api.patch(path, json={"model": "other"}, headers=any_state).status_code == 422


def logged(api: TestClient) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = api.get("/v1/events", params={"kind": "schedule"}).json()["items"]
    return items


def test_what_is_overdue_is_seen_in_metrics_calendar_list_and_readiness_however_old_it_is(
    api: TestClient, made: dict[str, Any], database: Database
) -> None:
    gauge = "audit_overdue_schedules"
    assert f"{gauge} 0.0" in api.get("/metrics").text
    with database.writing() as session:
        session.get_one(ScheduleRow, made["id"]).cursor = datetime.now(UTC) - timedelta(days=300)
    since = api.get(f"/v1/schedules/{made['id']}").json()["overdue_since"]
    assert datetime.fromisoformat(since) < datetime.now(UTC) - timedelta(days=180)
    late = [entry for entry in api.get("/v1/schedules/calendar").json() if entry["overdue"]]
    assert late[0]["due_at"] == since
    assert f"{gauge} 1.0" in api.get("/metrics").text
    assert api.get("/readyz").json()["overdue_schedules"] == 1


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
    api.post(f"/v1/schedules/{made['id']}/resume")
    assert [(event["actor"], event["data"]["what"]) for event in logged(api)] == [
        ("user:admin@localhost", "paused"),
        ("user:admin@localhost", "resumed"),
    ]
    assert api.get("/v1/events/check").json()["broken_at"] is None


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
