from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from audit_service.db.handles import Database
from tests.revalidation.made import accepted, complete
from tests.service import Audit


@pytest.fixture
def run(audit: Audit) -> str:
    made: str = audit.run()["id"]
    return made


def other_version(audit: Audit, folder: Path) -> str:
    """The same folder with a file more, as version 2."""
    (folder / "README.md").write_text("retrained")
    made: str = audit.model("2")["id"]
    return made


class TestAcceptedRuns:
    def test_they_are_found_by_model_and_behavior(self, api: TestClient, run: str, database: Database) -> None:
        accepted(api, database, run)
        names = {"model": "tiny", "behavior": "loan-denial-race"}
        [found] = api.get("/v1/accepted-runs", params=names).json()["items"]
        assert (found["run_id"], found["reviewer"]) == (run, "user:rita@bank.example")
        for name in names:
            assert api.get("/v1/accepted-runs", params={name: "other"}).json()["items"] == []

    def test_a_run_that_nobody_accepted_is_not_among_them(self, api: TestClient, run: str, database: Database) -> None:
        complete(database, run)
        assert api.get("/v1/accepted-runs").json()["items"] == []


class TestRevalidation:
    def test_the_accepted_terms_are_repeated_unchanged_on_the_other_version(
        self, api: TestClient, audit: Audit, run: str, database: Database, model_folder: Path
    ) -> None:
        accepted(api, database, run)
        version = other_version(audit, model_folder)
        answer = api.post("/v1/revalidations", json={"model_version_id": version, "earlier_run_id": run})
        assert answer.status_code == 201, answer.text
        made = answer.json()
        assert (made["earlier_run_id"], made["drift"], made["run"]["state"]) == (run, None, "queued")
        before = api.get(f"/v1/plans/{api.get(f'/v1/runs/{run}').json()['plan_id']}").json()
        after = api.get(f"/v1/plans/{made['run']['plan_id']}").json()
        assert after["model_version_id"] == version
        assert {**after["content"], "model": None} == {**before["content"], "model": None}
        assert not after["exploratory"]
        assert api.get(f"/v1/runs/{made['run_id']}/revalidation").json() == made
        assert api.get("/v1/revalidations", params={"earlier_run_id": run}).json()["items"] == [made]

    def test_a_run_that_is_not_completed_is_not_repeated(
        self, api: TestClient, audit: Audit, run: str, model_folder: Path
    ) -> None:
        wanted = {"model_version_id": other_version(audit, model_folder), "earlier_run_id": run}
        answer = api.post("/v1/revalidations", json=wanted)
        assert (answer.status_code, answer.json()["detail"]) == (409, "The earlier run is queued.")

    def test_another_model_is_refused(
        self, api: TestClient, audit: Audit, run: str, database: Database, model_folder: Path
    ) -> None:
        complete(database, run)
        other = audit.create("model-versions", {"name": "other", "version": "1", "path": str(model_folder)})
        answer = api.post("/v1/revalidations", json={"model_version_id": other["id"], "earlier_run_id": run})
        assert answer.status_code == 409
        assert "is of other, the earlier run of tiny" in answer.json()["detail"]

    def test_a_run_that_repeats_none_says_so(self, api: TestClient, run: str) -> None:
        answer = api.get(f"/v1/runs/{run}/revalidation")
        assert (answer.status_code, "repeats no other" in answer.json()["detail"]) == (404, True)
