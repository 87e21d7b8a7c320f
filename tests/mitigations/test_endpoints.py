from typing import Any

import pytest
from fastapi.testclient import TestClient

from audit_service.client import Client
from audit_service.db.handles import Database
from audit_service.db.tables import RevalidationRow, RunRow
from audit_service.domain.drift import Change, Drift
from audit_service.mitigations.schemas import MitigationCreate
from tests.identity.made import issue
from tests.service import Audit, bearer

MEASURE = {"title": "Steering", "description": "A vector at layer 12.", "fitted_on": "Forty other pairs."}
SIDE = {"name": "neutral.accuracy", "value": -0.01, "low": -0.02, "high": 0.0, "unit": "share", "method": "mean"}


@pytest.fixture
def run(audit: Audit, database: Database) -> str:
    """A run that repeats another and was judged."""
    earlier, later = audit.run()["id"], audit.run()["id"]
    drift = Drift(results=(), statements=(), output=Change.CHANGED, mechanism=Change.UNDECIDED)
    with database.writing() as session:
        runs = [session.get_one(RunRow, one) for one in (earlier, later)]
        session.add(RevalidationRow(run=runs[1], earlier_run=runs[0], drift=drift))
    found: str = later
    return found


def test_a_measure_stands_with_the_change_that_the_repetition_showed(api: TestClient, run: str) -> None:
    made = api.post(f"/v1/runs/{run}/mitigations", json=MEASURE | {"side_effects": [SIDE]})
    assert made.status_code == 201, made.text
    said = made.json()
    assert (said["drift"]["output"], said["recorded_by"]) == ("changed", "user:admin@localhost")
    assert (said["run_id"], said["earlier_run_id"] != run) == (run, True)
    assert said["side_effects"][0]["key"] == "neutral.accuracy"
    assert api.get(f"/v1/runs/{run}/mitigations").json()["items"] == [said]
    logged = api.get("/v1/events", params={"kind": "created"}).json()["items"]
    assert {"call": "record_mitigation", "id": said["id"]} in [event["data"] for event in logged]


def test_a_run_that_repeats_no_other_shows_no_before_and_after(api: TestClient, audit: Audit) -> None:
    answer = api.post(f"/v1/runs/{audit.run()['id']}/mitigations", json=MEASURE)
    assert answer.status_code == 409
    assert "/v1/revalidations" in answer.json()["remedy"]


def test_a_service_records_none(api: TestClient, run: str) -> None:
    service = bearer(issue(api, role="admin")["token"])
    assert api.post(f"/v1/runs/{run}/mitigations", json=MEASURE, headers=service).status_code == 403


@pytest.mark.parametrize("wrong", [{"low": None}, {"value": 0.5}, {"unit": "points"}, {"name": "A b"}, {"p_value": 2}])
def test_a_side_effect_that_says_nothing_certain_is_refused(api: TestClient, run: str, wrong: dict[str, Any]) -> None:
    answer = api.post(f"/v1/runs/{run}/mitigations", json=MEASURE | {"side_effects": [SIDE | wrong]})
    assert answer.status_code == 422, answer.text


def test_the_client_records_one_too(client: Client, run: str) -> None:
    made = client.record_mitigation(run, MitigationCreate.model_validate(MEASURE))
    assert list(client.mitigations(run)) == [made]
