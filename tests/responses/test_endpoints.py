from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from audit_service.client import Client
from audit_service.db.handles import Database
from audit_service.domain.plan import Plan
from audit_service.responses.schemas import ResponseCreate
from tests.findings.made import add_findings
from tests.identity.made import issue
from tests.revalidation.made import complete
from tests.service import Audit, bearer


@pytest.fixture
def run(audit: Audit, database: Database) -> str:
    """A run that was judged and has open items."""
    made: str = audit.run()["id"]
    add_findings(database, made, Plan.model_validate(audit.plan()["content"], strict=False))
    return made


def test_an_answer_stands_with_who_gave_it_and_is_logged(api: TestClient, run: str) -> None:
    wanted = {"text": "We accept it.", "action": "Retrain.", "owner": "Modelling", "due": "2027-03-01T00:00:00Z"}
    made = api.post(f"/v1/runs/{run}/responses", json=wanted)
    assert made.status_code == 201, made.text
    response = made.json()["response"]
    assert (response["scope"], response["person"], response["action"]) == (
        "behavior",
        "user:admin@localhost",
        "Retrain.",
    )
    assert api.get(f"/v1/runs/{run}/responses").json()["items"] == [made.json()]
    logged = api.get("/v1/events", params={"kind": "created"}).json()["items"]
    assert {"call": "respond_to_finding", "id": made.json()["id"]} in [event["data"] for event in logged]
    assert api.get("/v1/events/check").json()["broken_at"] is None


def test_nobody_changes_an_answer(api: TestClient, run: str, database: Database) -> None:
    api.post(f"/v1/runs/{run}/responses", json={"text": "We accept it."})
    for change in ("UPDATE responses SET response = '{}'", "DELETE FROM responses"):
        with pytest.raises(ProgrammingError, match="permission denied"), database.writing() as session:
            session.execute(text(change))


def test_a_service_answers_nothing(api: TestClient, run: str) -> None:
    answer = api.post(
        f"/v1/runs/{run}/responses", json={"text": "x"}, headers=bearer(issue(api, role="admin")["token"])
    )
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ({"scope": "raw"}, 409),
        ({"scope": "other"}, 422),
        ({"text": ""}, 422),
        ({"due": "9999-12-31T23:59:59-12:00"}, 422),
    ],
)
def test_what_is_no_open_item_is_refused(api: TestClient, run: str, wanted: dict[str, Any], status: int) -> None:
    answer = api.post(f"/v1/runs/{run}/responses", json={"text": "x"} | wanted)
    assert answer.status_code == status, answer.text
    assert answer.json()["remedy"]


def test_a_run_that_passed_or_is_not_judged_has_nothing_to_answer(
    api: TestClient, audit: Audit, database: Database
) -> None:
    run = audit.run()["id"]
    assert api.post(f"/v1/runs/{run}/responses", json={"text": "x"}).status_code == 404
    complete(database, run)
    assert api.post(f"/v1/runs/{run}/responses", json={"text": "x"}).status_code == 409


def test_the_client_answers_too(client: Client, run: str) -> None:
    made = client.respond(run, ResponseCreate(text="We accept it."))
    assert list(client.responses(run)) == [made]
