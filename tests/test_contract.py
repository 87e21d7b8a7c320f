"""The whole OpenAPI document against the running API, with the token of each role: no 5xx, no undocumented status,
no answer outside its schema.
"""

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

from audit_service.db.handles import Database
from audit_service.domain.plan import Plan
from audit_service.domain.roles import Role
from tests.findings.made import add_findings
from tests.identity.made import issue
from tests.service import Audit, bearer
from tests.sharing.made import add_bundle

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
EXAMPLES = 2
"""Of each call for each role; the calls are many."""
ENDLESS = {"follow_run"}
"""A stream that ends with its run."""


@pytest.fixture
def tokens(api: TestClient, app: FastAPI, audit: Audit, database: Database) -> dict[Role, str]:
    """A token of each role, in an organisation that has something of everything."""
    app.state.settings = app.state.settings.model_copy(
        update={"api_limit": "1000000/minute", "login_limit": "1000000/minute"}
    )
    run = audit.run()
    add_findings(database, run["id"], Plan.model_validate(audit.plan()["content"], strict=False))
    add_bundle(database, run["id"])
    return {role: issue(api, role=role)["token"] for role in Role}


@pytest.mark.parametrize("role", list(Role))
def test_every_call_keeps_to_the_document(app: FastAPI, tokens: dict[Role, str], role: Role) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    called = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        name = operation.definition.raw["operationId"]
        if name not in ENDLESS | {"sign_out"}:
            called.add(name)
            _call(operation, bearer(tokens[role]))
    assert len(called) > 60


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
