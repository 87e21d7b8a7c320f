from fastapi.testclient import TestClient

from audit_service.domain.behaviors import Behavior
from audit_service.domain.manifest import digest
from tests.examples import loan_denial
from tests.service import Audit


def test_a_behavior_comes_back_as_it_was_sent(api: TestClient, audit: Audit) -> None:
    version = audit.behavior()
    content = loan_denial().behavior
    assert Behavior.model_validate(version["content"], strict=False) == content
    assert version["digest"] == digest(content)
    assert (version["name"], version["number"]) == ("loan-denial-race", 1)
    assert api.get(f"/v1/behavior-versions/{version['id']}").json() == version


def test_a_changed_behavior_is_the_next_version_and_an_unchanged_one_is_not(api: TestClient, audit: Audit) -> None:
    first, again, second = audit.behavior(), audit.behavior(), audit.behavior(title="Another title")
    assert again == first
    assert second["number"] == 2
    listed = api.get("/v1/behavior-versions", params={"behavior": "loan-denial-race"}).json()["items"]
    assert [version["id"] for version in listed] == [second["id"], first["id"]]


def test_a_behavior_that_contradicts_itself_is_refused_with_the_reason(api: TestClient) -> None:
    content = loan_denial().behavior.model_dump(mode="json")
    content["attributes"][0]["reference"] = "nobody"
    answer = api.post("/v1/behavior-versions", json=content)
    assert answer.status_code == 422
    found = answer.json()["errors"][0]
    assert found["pointer"] == "/body/attributes/0"
    assert "nobody" in found["detail"]
    assert api.get("/v1/behavior-versions").json()["items"] == []


def test_the_documented_example_can_be_sent_as_it_is(api: TestClient) -> None:
    call = api.get("/openapi.json").json()["paths"]["/v1/behavior-versions"]["post"]
    [example] = call["requestBody"]["content"]["application/json"]["schema"]["examples"]
    version = api.post("/v1/behavior-versions", json=example)
    assert version.status_code == 201
    pairs = api.post("/v1/pair-sets", json={"behavior_version_id": version.json()["id"]})
    assert pairs.json()["count"] == 1


def test_numbers_are_not_guessed_from_truth_values(api: TestClient) -> None:
    content = loan_denial().behavior.model_dump(mode="json") | {"cut": False}
    answer = api.post("/v1/behavior-versions", json=content)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/body/cut"
