from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text

from audit_service.border.transactions import Reading
from tests.service import bearer


def is_problem(answer: Any, status: int) -> None:
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert all(problem[field] for field in ("type", "title", "detail", "remedy"))


def test_paths_and_methods_that_are_not_there_are_problems_too(api: TestClient) -> None:
    is_problem(api.get("/v1/nothing"), 404)
    is_problem(api.get("/"), 404)
    answer = api.delete("/v1/models")
    is_problem(answer, 405)
    assert answer.headers["Allow"] == "GET"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ("{", "/body/1"),
        ("[]", "/body"),
        ('{"name": "x"}', "/body/formula"),
        ('{"name": "x", "formula": "d", "title": "X", "unit": "nats", "more": 1}', "/body/more"),
        ('{"name": 1, "formula": "d", "title": "X", "unit": "nats"}', "/body/name"),
        ('{"name": "x", "formula": "d", "title": "\\ud800", "unit": "nats"}', "/body"),
    ],
)
def test_a_body_that_cannot_be_used_names_each_field(api: TestClient, body: str, pointer: str) -> None:
    answer = api.post("/v1/metrics", content=body, headers={"Content-Type": "application/json"})
    is_problem(answer, 422)
    assert pointer in [found["pointer"] for found in answer.json()["errors"]]


def test_a_body_that_is_no_text_is_a_problem(api: TestClient) -> None:
    answer = api.post("/v1/metrics", content=b"\xff", headers={"Content-Type": "application/json"})
    is_problem(answer, 400)


def test_a_body_of_another_type_is_refused_with_the_type_that_is_wanted(api: TestClient) -> None:
    answer = api.post("/v1/metrics", content="name: x", headers={"Content-Type": "text/yaml"})
    is_problem(answer, 422)
    assert "Content-Type: application/json" in answer.json()["errors"][0]["detail"]


def test_a_character_that_the_database_cannot_hold_is_refused(api: TestClient) -> None:
    row = {"id": "a\x00b", "attribute": "race", "reference_group": "white", "comparison_group": "black"}
    prompts = {"reference_prompt": "Emily", "comparison_prompt": "Lakisha"}
    answer = api.post("/v1/pair-sets/upload?name=x&format=json", json=[row | prompts])
    is_problem(answer, 422)
    assert "NUL" in answer.json()["remedy"]


def test_a_body_that_is_too_large_is_refused(api: TestClient) -> None:
    answer = api.post("/v1/pair-sets/upload?name=x&format=csv", content=b"", headers={"Content-Length": str(2**40)})
    is_problem(answer, 413)


def test_our_own_mistakes_are_logged_and_tell_nothing_to_the_outside(
    app: FastAPI, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("secret")

    @app.get("/wrong")
    def wrong(session: Reading) -> None:
        session.execute(text("secret SELECT"))

    with TestClient(app, raise_server_exceptions=False, headers=bearer(token)) as api:
        for path in ("/broken", "/wrong"):
            answer = api.get(path)
            is_problem(answer, 500)
            assert "secret" not in answer.text
            assert f"GET {path} failed" in caplog.text
