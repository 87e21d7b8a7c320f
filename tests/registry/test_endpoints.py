import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from audit_service.db.handles import Database
from audit_service.db.tables import ModelVersionRow
from tests.service import Audit


def wanted(folder: Path, **changes: Any) -> dict[str, Any]:
    return {"name": "tiny", "version": "1", "path": str(folder)} | changes


def test_a_registered_version_is_listed_with_its_model_and_found_by_id(api: TestClient, audit: Audit) -> None:
    version = audit.model()
    assert version["name"] == "tiny"
    assert version["identity"]["parameters"] == 40
    assert api.get(f"/v1/model-versions/{version['id']}").json() == version
    assert api.get("/v1/model-versions", params={"model": "tiny"}).json() == {"items": [version], "next": None}
    assert api.get("/v1/model-versions", params={"model": "other"}).json()["items"] == []
    [model] = api.get("/v1/models").json()["items"]
    assert model["id"] == version["model_id"]


def test_the_same_files_under_the_same_label_are_registered_once(api: TestClient, model_folder: Path) -> None:
    first = api.post("/v1/model-versions", json=wanted(model_folder))
    second = api.post("/v1/model-versions", json=wanted(model_folder))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()


def test_registrations_at_the_same_time_make_one_version(api: TestClient, model_folder: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: api.post("/v1/model-versions", json=wanted(model_folder)), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_a_label_never_stands_for_other_files(api: TestClient, audit: Audit, model_folder: Path) -> None:
    audit.model()
    (model_folder / "tokenizer.json").write_text('{"other": 1}')
    answer = api.post("/v1/model-versions", json=wanted(model_folder))
    assert answer.status_code == 409
    assert "new version label" in answer.json()["remedy"]
    assert api.post("/v1/model-versions", json=wanted(model_folder, version="2")).status_code == 201


def test_the_number_format_is_part_of_the_version(api: TestClient, audit: Audit, model_folder: Path) -> None:
    audit.model()
    assert api.post("/v1/model-versions", json=wanted(model_folder, dtype="bfloat16")).status_code == 409


def test_a_version_from_before_keys_and_values_were_counted_learns_their_number(
    api: TestClient, audit: Audit, model_folder: Path, database: Database
) -> None:
    made = audit.model()
    with database.writing() as session:
        row = session.get_one(ModelVersionRow, made["id"])
        row.identity = row.identity.model_copy(update={"kv_heads": None})
    answer = api.post("/v1/model-versions", json=wanted(model_folder))
    assert answer.status_code == 200
    assert answer.json() == made
    assert made["identity"]["kv_heads"] == 3


def test_a_refused_model_leaves_nothing_behind(api: TestClient, model_folder: Path) -> None:
    (model_folder / "config.json").write_text(json.dumps({"auto_map": {}}))
    answer = api.post("/v1/model-versions", json=wanted(model_folder))
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:audit-service:invalid-model"
    assert api.get("/v1/models").json()["items"] == []


def test_a_version_that_is_not_there_is_404(api: TestClient) -> None:
    answer = api.get("/v1/model-versions/01936f5e-7c1a-7a3e-8f00-0242ac120002")
    assert answer.status_code == 404
    assert "GET /v1/model-versions" in answer.json()["remedy"]
