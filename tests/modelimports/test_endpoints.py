import base64
import hmac
import json
import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from audit_service import dispatch
from audit_service.identity import bootstrap
from audit_service.settings import get_settings
from tests.service import Audit, bearer

SECRET = "shared-with-mlflow"


@pytest.fixture(autouse=True)
def _mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_MLFLOW_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("AUDIT_MLFLOW_WEBHOOK_SECRET", SECRET)
    get_settings.cache_clear()


def event(name: str = "tiny", version: str = "7", **changes: Any) -> bytes:
    data = {"name": name, "version": version, "source": "models:/m-1", "run_id": None, "tags": {}}
    body = {"entity": "model_version", "action": "created", "timestamp": "2026-11-21T10:00:00Z", "data": data}
    return json.dumps(body | changes).encode()


def send(
    api: TestClient, body: bytes, *, secret: str = SECRET, age: int = 0, signed: bytes | None = None
) -> httpx.Response:
    """As MLflow sends it, without a token."""
    at = str(int(time.time()) - age)
    signature = hmac.digest(secret.encode(), b".".join([b"d1", at.encode(), signed or body]), "sha256")
    headers = {
        "X-MLflow-Signature": "v1," + base64.b64encode(signature).decode(),
        "X-MLflow-Delivery-Id": "d1",
        "X-MLflow-Timestamp": at,
        "Content-Type": "application/json",
        "Authorization": "",
    }
    return api.post("/v1/mlflow/events", content=body, headers=headers)


def imports(api: TestClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get("/v1/model-imports").json()["items"]
    return found


def test_a_new_version_of_a_registered_model_is_imported_once(api: TestClient, audit: Audit) -> None:
    audit.model()
    answer = send(api, event())
    assert answer.status_code == 200, answer.text
    assert send(api, event()).json() == answer.json()
    [made] = imports(api)
    assert (made["name"], made["version"], made["dtype"], made["state"]) == ("tiny", "7", "float32", "queued")
    [asked] = api.get("/v1/events", params={"kind": "import"}).json()["items"]
    assert (asked["actor"], asked["data"]["what"], asked["data"]["version"]) == ("mlflow:webhook", "asked", "7")
    assert dispatch.waiting(dispatch.CPU) == 1


def test_what_is_not_followed_is_not_imported(api: TestClient, audit: Audit) -> None:
    audit.model()
    others = [
        event("other"),
        event(entity="model_version_tag", action="set"),
        event(action="deleted"),
        event(data=None),
    ]
    assert [send(api, body).json() for body in others] == [{"imported": None}] * 4
    assert imports(api) == []


@pytest.mark.parametrize("change", [{"secret": "another"}, {"age": 301}, {"age": -400}, {"signed": b"{}"}])
def test_what_does_not_come_from_mlflow_now_is_refused(api: TestClient, audit: Audit, change: dict[str, Any]) -> None:
    audit.model()
    assert send(api, event(), **change).status_code == 401
    assert imports(api) == []


def test_without_a_secret_no_webhook_is_taken(api: TestClient, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api.post("/v1/mlflow/events", content=event()).status_code == 401


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"entity": 1}', b"\xff"])
def test_what_is_no_event_is_refused(api: TestClient, body: bytes) -> None:
    assert send(api, body).status_code == 422


def test_a_version_can_be_asked_for_and_asked_for_again_after_a_refusal(api: TestClient) -> None:
    wanted = {"name": "credit", "version": "1", "dtype": "bfloat16"}
    first = api.post("/v1/model-imports", json=wanted)
    assert (first.status_code, first.json()["state"]) == (201, "queued")
    again = api.post("/v1/model-imports", json=wanted)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert dispatch.waiting(dispatch.CPU) == 1


def test_the_registry_of_one_organisation_is_not_reached_by_another(api: TestClient, app: FastAPI) -> None:
    other = bootstrap.add_organisation(app.state.database, "other bank", email="eva@other.example", password=None)
    answer = api.post("/v1/model-imports", json={"name": "credit", "version": "1"}, headers=bearer(other.text))
    assert (answer.status_code, "for this organisation" in answer.json()["detail"]) == (409, True)


def test_without_mlflow_nothing_can_be_asked_for(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUDIT_MLFLOW_URI")
    get_settings.cache_clear()
    answer = api.post("/v1/model-imports", json={"name": "credit", "version": "1"})
    assert (answer.status_code, answer.json()["remedy"]) == (409, "Set AUDIT_MLFLOW_URI.")
