from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from audit_service.client import Client
from audit_service.db.handles import Database
from audit_service.deployments.schemas import DeploymentCreate
from tests.service import Audit

PLACE = "production, card applications"


def deploy(api: TestClient, version_id: str, **changes: Any) -> Any:
    return api.post("/v1/deployments", json={"model_version_id": version_id, "place": PLACE} | changes)


@pytest.fixture
def versions(audit: Audit, model_folder: Path) -> tuple[str, str]:
    first: str = audit.model("1")["id"]
    (model_folder / "README.md").write_text("retrained")
    return first, audit.model("2")["id"]


def test_one_version_is_in_use_at_a_place(api: TestClient, versions: tuple[str, str]) -> None:
    one, two = versions
    made = deploy(api, one)
    assert (made.status_code, made.json()["version"], made.json()["ended_at"]) == (201, "1", None)
    assert (deploy(api, one).status_code, deploy(api, one).json()) == (200, made.json())
    refused = deploy(api, two)
    assert (refused.status_code, made.json()["id"] in refused.json()["remedy"]) == (409, True)
    ended = api.post(f"/v1/deployments/{made.json()['id']}/end").json()
    assert ended["ended_at"] is not None
    assert api.post(f"/v1/deployments/{made.json()['id']}/end").json() == ended
    assert deploy(api, two).status_code == 201
    listed = api.get("/v1/deployments", params={"model": "tiny"}).json()["items"]
    assert [(item["version"], item["ended_at"] is None) for item in listed] == [("2", True), ("1", False)]
    assert api.get("/v1/deployments", params={"model": "other"}).json()["items"] == []
    assert api.get(f"/v1/deployments/{listed[1]['id']}").json() == ended
    [logged] = api.get("/v1/events", params={"kind": "deployment"}).json()["items"]
    assert logged["data"] == {"id": ended["id"], "place": PLACE, "what": "ended"}


def test_what_lies_ahead_is_not_in_use(api: TestClient, versions: tuple[str, str]) -> None:
    assert deploy(api, versions[0], since="2999-01-01T00:00:00Z").status_code == 422
    assert deploy(api, "01936f5e-7c1a-7a3e-8f00-0242ac120002").status_code == 404


def test_an_end_stays_as_it_was_written(api: TestClient, versions: tuple[str, str], database: Database) -> None:
    made = deploy(api, versions[0]).json()
    ended = api.post(f"/v1/deployments/{made['id']}/end").json()
    with database.writing() as session:
        session.execute(text("UPDATE deployments SET ended_at = NULL"))
    assert api.get(f"/v1/deployments/{made['id']}").json() == ended


def test_the_client_does_it_too(client: Client, versions: tuple[str, str]) -> None:
    made = client.record_deployment(DeploymentCreate(model_version_id=versions[0], place=PLACE))
    assert client.end_deployment(made.id).ended_at is not None
    assert [one.id for one in client.deployments(model="tiny")] == [made.id]
