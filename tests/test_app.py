import copy
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator

from audit_service.app import create_app
from audit_service.errors import DatabaseDown, InvalidInput
from audit_service.problems import MEDIA_TYPE
from audit_service.settings import Settings
from tests.compatibility import PROMISED, surface, taken_away


def test_the_api_starts_without_torch() -> None:
    code = "import sys, audit_service.app; sys.exit(bool({'torch', 'transformers', 'workers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_a_database_the_application_says_what_to_set() -> None:
    with pytest.raises(DatabaseDown, match="AUDIT_DATABASE_URL"):
        create_app(Settings())


def test_a_database_of_its_own_needs_the_folders_of_models(database_url: str) -> None:
    with pytest.raises(InvalidInput, match="AUDIT_MODEL_ROOTS"):
        create_app(Settings(database_url=database_url))


def test_every_call_is_documented_with_its_purpose_its_tag_and_its_problems(app: FastAPI) -> None:
    document = app.openapi()
    for path, calls in document["paths"].items():
        for call in calls.values():
            assert call["description"], path
            assert call["tags"], path
            problems = [answer for status, answer in call["responses"].items() if int(status) >= 400]
            assert problems, path
            assert all(MEDIA_TYPE in answer["content"] for answer in problems), path
            assert "503" in call["responses"], path


SHOWN_ONCE = {"/v1/sessions", "/v1/tokens", "/v1/runs/{run_id}/shares", "/v1/notification-targets"}
"""Their answers hold a secret, which is kept nowhere and so cannot be answered again."""


def test_every_creating_call_takes_an_idempotency_key(app: FastAPI) -> None:
    for path, calls in app.openapi()["paths"].items():
        if path not in SHOWN_ONCE and "201" in calls.get("post", {"responses": {}})["responses"]:
            assert "Idempotency-Key" in [parameter["name"] for parameter in calls["post"]["parameters"]], path


def test_nothing_that_callers_build_on_is_taken_away(app: FastAPI) -> None:
    promised, present = PROMISED.read_text().splitlines(), list(surface(app.openapi()))
    assert taken_away(iter(promised), iter(present)) == []


def body_of(document: Any, path: str) -> Any:
    return document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["paths"].pop("/v1/models"), "GET /v1/models must is gone"),
        (lambda d: d["components"]["schemas"]["Run"]["properties"].pop("reason"), "200:reason is gone"),
        (lambda d: body_of(d, "/v1/runs")["required"].append("why"), "POST /v1/runs must: why is new"),
        (lambda d: body_of(d, "/v1/schedules")["properties"].pop("rule"), "POST /v1/schedules may: rule is gone"),
        (lambda d: d["paths"]["/v1/runs"]["get"]["parameters"].pop(0), "GET /v1/runs may: query:plan_id is gone"),
    ],
)
def test_what_is_taken_away_is_found(app: FastAPI, change: Callable[[Any], object], said: str) -> None:
    promised, document = list(surface(app.openapi())), copy.deepcopy(app.openapi())
    change(document)
    found = taken_away(iter(promised), surface(document))
    assert any(said in one for one in found), found


def test_every_list_that_can_grow_is_paged(app: FastAPI) -> None:
    for path, calls in app.openapi()["paths"].items():
        schema = calls.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        name = schema.get("application/json", {}).get("schema", {}).get("$ref", "")
        if "Page_" in name:
            assert {"cursor", "limit"} <= {parameter["name"] for parameter in calls["get"]["parameters"]}, path


def test_every_reference_of_the_document_leads_somewhere(app: FastAPI) -> None:
    document = app.openapi()
    known = set(document["components"]["schemas"])

    def walk(part: object) -> None:
        if isinstance(part, dict):
            if "$ref" in part:
                assert part["$ref"].removeprefix("#/components/schemas/") in known
            for child in part.values():
                walk(child)
        elif isinstance(part, list):
            for child in part:
                walk(child)

    walk(document)


def test_the_documentation_is_served_whole_by_the_service_itself(api: TestClient) -> None:
    page = api.get("/docs")
    assert (page.status_code, "script-src 'self';" in page.headers["Content-Security-Policy"]) == (200, True)
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {name.partition("/")[0] for name in named} == {"docs"}
    for name in named:
        part = api.get(f"/{name}")
        assert (part.status_code, len(part.content) > 100) == (200, True), name
        assert part.headers["X-Content-Type-Options"] == "nosniff"
    assert "<script>" not in page.text
    for other in ("redoc.standalone.js", "..%2Fcore.py", "core.py"):
        assert api.get(f"/docs/{other}").status_code == 404
    assert api.get("/redoc").status_code == 404
    assert api.get("/openapi.json").json()["info"]["title"] == "audit-service"


def test_every_body_and_every_answer_has_an_example_that_is_one(app: FastAPI) -> None:
    document = app.openapi()
    seen = 0
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            for what, part in (("body", call.get("requestBody", {})), *call["responses"].items()):
                for media_type, media in part.get("content", {}).items():
                    if what != "body" and media_type not in {"application/json", MEDIA_TYPE}:
                        continue
                    seen += 1
                    whole = media["schema"] | {"components": document["components"]}
                    problems = [
                        f"{method} {path} {what}: {error.json_path}: {error.message}"[:300]
                        for error in Draft202012Validator(whole).iter_errors(media["example"])
                    ]
                    assert problems == []
    assert seen > 500


def test_the_example_of_each_body_is_read_by_its_call(api: TestClient, app: FastAPI) -> None:
    for path, calls in app.openapi()["paths"].items():
        for method, call in calls.items():
            media = call.get("requestBody", {}).get("content", {}).get("application/json")
            assert media is None or media["example"], path
            if media is not None and path != "/v1/mlflow/events":  # whose signature comes first
                filled = re.sub(r"\{\w+\}", "01936f5e-7c1a-7a3e-8f00-0242ac120002", path)
                answer = api.request(method, filled, json=media["example"], headers={"If-Match": "*"})
                assert answer.status_code < 500, (path, answer.text)
                said = answer.json() if answer.content else {}
                pointed = [error.get("pointer") or "" for error in said.get("errors", [])]
                assert not [one for one in pointed if one.startswith("/body")], (path, answer.text)
