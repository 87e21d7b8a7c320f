from pathlib import Path

from fastapi.testclient import TestClient

from audit_service.client import Client
from audit_service.domain.auditfile import parse_audit_file
from audit_service.library.catalogue import entries
from audit_service.registry.schemas import ModelVersionCreate


def test_the_library_is_listed_with_its_datasheets(api: TestClient) -> None:
    shown = api.get("/v1/library").json()
    assert [one["name"] for one in shown] == [entry.name for entry in entries()]
    [age] = [one for one in shown if one["name"] == "loan-denial-age"]
    assert age["attributes"] == ["age"]
    assert age["datasheet"]["titles"]["zh-Hant"] == "因年齡而異的貸款拒絕"


def test_an_unknown_behavior_is_answered_with_those_there_are(api: TestClient) -> None:
    answer = api.get("/v1/library/loan-denial-height")
    assert answer.status_code == 404
    assert "loan-denial-age" in answer.json()["remedy"]


def test_an_entry_is_registered_as_it_is_and_its_file_is_an_audit(client: Client, model_folder: Path) -> None:
    assert "collections-race" in [entry.name for entry in client.library()]
    entry = client.library_entry("loan-denial-gender-zh")
    version = client.register_behavior(entry.behavior)
    assert version.content == entry.behavior
    assert client.generate_pairs(version.id).count > 0
    assert parse_audit_file(entry.file, name="file").behavior == entry.behavior
    assert client.register_model(ModelVersionCreate(name="tiny", version="1", path=str(model_folder))).id
