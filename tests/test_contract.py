"""The whole OpenAPI document against the running API, with the token of each role: no 5xx, no undocumented status,
no answer outside its schema.
"""

import re
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from audit_service.domain.roles import Role
from tests.identity.made import issue
from tests.service import bearer
from tests.things import id_of

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
EXAMPLES = 2
"""Of each call for each role; the calls are many."""
QUERY = {"form": "raw", "direction": "denoise", "state": "unknown"}
"""Of calls that must be told something."""
ENDLESS = {"follow_run"}
"""A stream that ends with its run."""


@pytest.fixture
def tokens(api: TestClient, app: FastAPI, things: dict[str, str]) -> dict[Role, str]:
    """A token of each role, in an organisation that has something of everything."""
    app.state.settings = app.state.settings.model_copy(
        update={"api_limit": "1000000/minute", "login_limit": "1000000/minute"}
    )
    return {role: issue(api, role=role)["token"] for role in Role}


@pytest.mark.parametrize("role", list(Role))
def test_every_call_keeps_to_the_document(
    app: FastAPI, tokens: dict[Role, str], things: dict[str, str], role: Role
) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    called, found = set(), set()
    for result in schema.get_all_operations():
        operation = result.ok()
        name = operation.definition.raw["operationId"]
        if name not in ENDLESS | {"sign_out"}:
            called.add(name)
            secured = operation.method == "get" and operation.definition.raw.get("security")
            if secured and _read(operation, bearer(tokens[role]), things) == 200:
                found.add(name)
            _call(operation, bearer(tokens[role]))
    assert len(called) > 60
    assert {"get_run", "list_effects", "get_schedule", "download_report", "list_runs"} <= found


def _read(operation: Any, headers: dict[str, str], things: dict[str, str]) -> int:
    """What is there, read by its own id and checked against the document; the answer's status."""
    named = re.findall(r"\{(\w+)\}", operation.path)
    ids = {name: id_of(name, operation.path, things) for name in named}
    required = [given["name"] for given in operation.definition.raw.get("parameters", ()) if given.get("required")]
    query = {name: QUERY[name] for name in required if name not in ids}
    case = operation.Case(path_parameters=ids, query=query)
    return int(case.call_and_validate(headers=headers, checks=CHECKS).status_code)


def _call(operation: Any, headers: dict[str, str]) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def call(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)

    call()
