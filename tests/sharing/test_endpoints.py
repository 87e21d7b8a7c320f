from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import update

from audit_service.db.handles import Database
from audit_service.db.tables import ShareRow
from tests.service import Audit
from tests.sharing.made import PACKED, PDF, add_bundle


@pytest.fixture
def run_id(audit: Audit, database: Database) -> str:
    run_id: str = audit.run()["id"]
    add_bundle(database, run_id)
    return run_id


@pytest.fixture
def auditor(app: FastAPI) -> Iterator[TestClient]:
    """Somebody without an account."""
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def share(api: TestClient, run_id: str, **wanted: Any) -> dict[str, Any]:
    answer = api.post(f"/v1/runs/{run_id}/shares", json=wanted)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_a_link_gives_the_evidence_to_somebody_without_an_account(
    api: TestClient, auditor: TestClient, run_id: str
) -> None:
    path = share(api, run_id, note="external auditor")["path"]
    described = auditor.get(path).json()
    assert (described["run_id"], described["edition"], described["languages"]) == (run_id, 1, ["en"])
    bundle = auditor.get(f"{path}/bundle")
    assert bundle.content == PACKED
    assert bundle.headers["ETag"] == f'"{described["bundle_digest"]}"'
    assert auditor.get(f"{path}/report").content == PDF
    assert auditor.get(f"{path}/report", params={"language": "zh-Hant"}).status_code == 404


def test_a_link_leads_to_nothing_else(api: TestClient, auditor: TestClient, run_id: str) -> None:
    text = share(api, run_id)["path"].rpartition("/")[2]
    assert auditor.get("/v1/runs", headers={"Authorization": f"Bearer {text}"}).status_code == 401


def test_every_use_is_counted_and_logged(api: TestClient, auditor: TestClient, run_id: str) -> None:
    made = share(api, run_id)
    for end in ("", "/bundle", "/report"):
        auditor.get(made["path"] + end)
    api.delete(f"/v1/shares/{made['id']}")
    auditor.get(made["path"])
    [listed] = api.get("/v1/shares", params={"run_id": run_id}).json()["items"]
    assert (listed["opened"], "path" in listed) == (3, False)
    events = api.get("/v1/events", params={"kind": "share"}).json()["items"]
    said = [(event["data"]["what"], event["data"]["why"]) for event in events]
    assert said == [
        ("made", None),
        ("opened description", None),
        ("opened bundle", None),
        ("opened report", None),
        ("revoked", None),
        ("refused", "revoked"),
    ]
    assert events[1]["address"] == "testclient"


@pytest.mark.parametrize("why", ["revoked", "expired"])
def test_a_link_that_has_ended_says_why(
    api: TestClient, auditor: TestClient, database: Database, run_id: str, why: str
) -> None:
    made = share(api, run_id, days=1)
    if why == "revoked":
        api.delete(f"/v1/shares/{made['id']}")
    else:
        with database.writing() as session:
            session.execute(update(ShareRow).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    for end in ("", "/bundle", "/report"):
        answer = auditor.get(made["path"] + end)
        assert answer.status_code == 410
        assert answer.json()["detail"] == f"The link is {why}."


def test_a_link_that_is_changed_is_none(api: TestClient, auditor: TestClient, token: str, run_id: str) -> None:
    path = share(api, run_id)["path"]
    other = path[:-5] + ("AAAAA" if path[-5:] != "AAAAA" else "BBBBB")
    for wrong in (other, path[:-4], "/v1/shared/x", f"/v1/shared/{token}"):
        answer = auditor.get(wrong)
        assert (answer.status_code, answer.json()["detail"]) == (404, "There is no such link.")


def test_a_link_keeps_to_the_edition_that_was_shared(
    api: TestClient, auditor: TestClient, database: Database, run_id: str
) -> None:
    path = share(api, run_id)["path"]
    add_bundle(database, run_id, edition=2, content=b"PK of the second edition")
    assert auditor.get(f"{path}/bundle").content == PACKED


def test_a_run_without_a_bundle_is_not_shared(api: TestClient, audit: Audit) -> None:
    assert api.post(f"/v1/runs/{audit.run()['id']}/shares", json={}).status_code == 404
