"""The organisation's event log: complete, append-only, chained, exportable."""

import json
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from audit_service.db.handles import Database
from audit_service.domain.chain import first_break
from audit_service.domain.lifecycle import EventKind
from audit_service.events import repository
from audit_service.identity import bootstrap
from tests.identity.made import add_user, issue, sign_in
from tests.service import Audit, bearer


def log(api: TestClient, **query: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = api.get("/v1/events", params={"limit": 200, **query}).json()["items"]
    return items


def test_the_log_says_who_did_what_when_from_where_and_with_which_token(api: TestClient, audit: Audit) -> None:
    audit.run()
    made = [event["data"]["call"] for event in log(api, kind="created")]
    assert made == [
        "register_model_version",
        "register_behavior_version",
        "generate_pair_set",
        "make_plan",
        "start_run",
    ]
    event = log(api, kind="created")[0]
    [token] = api.get("/v1/tokens").json()["items"]
    assert (event["actor"], event["address"], event["token_id"]) == ("user:admin@localhost", "testclient", token["id"])
    [state] = log(api, kind="state")
    assert state["run_id"] is not None
    assert [entry["number"] for entry in log(api)] == list(range(1, len(log(api)) + 1))


def test_every_sign_in_is_logged_whether_it_held_or_not(api: TestClient, app: FastAPI) -> None:
    add_user(api, "anna@bank.example", "analyst")
    sign_in(api, "anna@bank.example", "wrong")
    token = sign_in(api, "anna@bank.example").json()["token"]
    sign_in(api, "nobody@bank.example", "wrong")
    api.delete("/v1/sessions/current", headers=bearer(token))
    seen = [(event["actor"], event["data"]["held"]) for event in log(api, kind="sign_in")]
    assert seen == [("nobody", False), ("user:anna@bank.example", True)]
    assert [event["data"]["what"] for event in log(api, kind="token")] == ["issued", "revoked"]
    with app.state.database.reading() as session:
        [stranger] = repository.chain(session, None)
        assert stranger.data["email"] == "nobody@bank.example"


def test_what_changes_peoples_access_is_logged(api: TestClient) -> None:
    path = f"/v1/users/{add_user(api, 'anna@bank.example', 'analyst')['id']}"
    api.patch(path, json={"active": False}, headers={"If-Match": "*"})
    api.delete(f"/v1/tokens/{issue(api, role='auditor')['id']}")
    api.patch("/v1/organisation", json={"name": "my bank"}, headers={"If-Match": "*"})
    assert log(api, kind="user")[0]["data"]["active"] is False
    assert [event["data"]["what"] for event in log(api, kind="token")] == ["issued", "issued", "revoked"]
    assert log(api, kind="organisation")[0]["data"] == {"from": "first organisation", "to": "my bank"}


@pytest.mark.parametrize("statement", ["UPDATE events SET actor = 'x'", "DELETE FROM events", "TRUNCATE events"])
def test_nobody_changes_an_entry_not_even_the_owner_of_the_tables(
    app: FastAPI, audit: Audit, database: Database, statement: str
) -> None:
    audit.model()
    for handle in (app.state.database, database):
        with pytest.raises(DBAPIError, match=r"append-only|permission denied"), handle.writing() as session:
            session.execute(text(statement))


def test_the_log_is_checked_and_the_first_broken_link_is_named(api: TestClient, app: FastAPI, audit: Audit) -> None:
    audit.run()
    whole = api.get("/v1/events/check").json()
    assert (whole["broken_at"], whole["entries"]) == (None, len(log(api)))
    with app.state.database.writing() as session:  # as somebody with every right over the database would
        session.execute(text("ALTER TABLE events DISABLE TRIGGER events_append_only"))
        session.execute(text("UPDATE events SET actor = 'user:eva@bank.example' WHERE number = 3"))
    broken = api.get("/v1/events/check").json()
    assert broken["broken_at"] == 3
    assert "changed" in broken["why"]


def test_the_export_can_be_checked_by_anybody(api: TestClient, audit: Audit) -> None:
    audit.run()
    answer = api.get("/v1/events/export")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    entries = [json.loads(line) for line in answer.text.splitlines()]
    assert first_break(entries) is None
    assert entries[-1]["digest"] == api.get("/v1/events/check").json()["digest"]
    entries[2]["data"]["call"] = "nothing"
    found = first_break(entries)
    assert found is not None
    assert found.number == 3


def test_numbers_that_json_writes_in_many_ways_keep_their_digest(audit: Audit, database: Database) -> None:
    run_id = audit.run()["id"]
    with database.writing() as session:
        numbers = {"small": 1e-7, "whole": 1.0, "negative": -0.0, "long": 0.1 + 0.2, "text": "é\u2028"}
        repository.append(session, run_id, EventKind.PROGRESS, actor="worker:a", data=numbers)
    with database.reading() as session:
        assert database.whom is not None
        assert repository.broken(session, database.whom.organisation_id) is None


def test_each_organisation_has_a_chain_of_its_own(api: TestClient, app: FastAPI, audit: Audit) -> None:
    other = bootstrap.add_organisation(app.state.database, "other bank", email="eva@other.example", password=None)
    audit.model()
    theirs = api.get("/v1/events", headers=bearer(other.text)).json()["items"]
    assert [(event["number"], event["kind"]) for event in theirs] == [(1, "token")]
    assert api.get("/v1/events/check", headers=bearer(other.text)).json()["entries"] == 1
