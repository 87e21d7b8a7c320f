"""Every call × every role × a foreign organisation."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from audit_service.domain.roles import ROLES, Permission, Role
from audit_service.identity import bootstrap
from audit_service.identity.permissions import NEEDS
from tests.identity.made import issue
from tests.service import Audit, bearer
from tests.things import filled

OPEN = {
    "sign_in",
    "sign_in_elsewhere",
    "finish_sign_in",
    "is_alive",
    "is_ready",
    "show_metrics",
    "receive_mlflow_event",
    "open_share",
    "download_shared_bundle",
    "download_shared_report",
}
"""Calls that need no token."""
EVERYBODYS = {"list_library", "get_library_entry"}
"""What comes with the service is no organisation's."""


def calls(app: FastAPI) -> Iterator[tuple[str, str, str]]:
    """(method, path, name) of every call of the API."""
    for path, methods in app.openapi()["paths"].items():
        for method, call in methods.items():
            yield method.upper(), path, call["operationId"]


def test_every_call_stands_in_the_table_and_nothing_else_does(app: FastAPI) -> None:
    assert {name for _, _, name in calls(app)} == set(NEEDS) | OPEN


def test_an_administrator_may_do_everything_and_an_auditor_changes_nothing(app: FastAPI) -> None:
    assert ROLES[Role.ADMIN] == set(Permission)
    for method, _, name in calls(app):
        if name in NEEDS and NEEDS[name] in ROLES[Role.AUDITOR] - {Permission.SELF}:
            assert method == "GET", name


def needed(method: str, path: str) -> Permission:  # noqa: PLR0911 - a table of paths
    """What docs/security.md says of a call, told by its path alone."""
    if path == "/v1/me" or path.startswith(("/v1/me/", "/v1/sessions")):
        return Permission.SELF
    if path.startswith(("/v1/users", "/v1/tokens")):
        return Permission.ADMINISTER
    if path.startswith("/v1/events"):
        return Permission.LOG
    if "/shares" in path:
        return Permission.SHARE
    if path.endswith("/decision"):
        return Permission.REVIEW
    if method == "GET":
        return Permission.READ
    if path.startswith(("/v1/organisation", "/v1/notification")):
        return Permission.ADMINISTER
    if path == "/v1/approvals" or path.endswith(("/responses", "/mitigations")):
        return Permission.PREPARE
    running = ("/v1/plans", "/v1/runs", "/v1/schedules", "/v1/occurrences", "/v1/revalidations")
    return Permission.RUN if path.startswith(running) else Permission.REGISTER


def test_each_call_needs_what_the_documents_say(app: FastAPI) -> None:
    found = {name: NEEDS[name] for _, _, name in calls(app) if name in NEEDS}
    assert found == {name: needed(method, path) for method, path, name in calls(app) if name in NEEDS}
    assert {role: sorted(permissions) for role, permissions in ROLES.items() if role is not Role.ADMIN} == {
        Role.ANALYST: ["prepare", "read", "register", "run", "self"],
        Role.REVIEWER: ["log", "read", "review", "self", "share"],
        Role.AUDITOR: ["log", "read", "self"],
    }


@pytest.mark.parametrize("role", list(Role))
def test_each_role_is_let_through_where_the_table_says_so_and_nowhere_else(
    api: TestClient, app: FastAPI, role: Role
) -> None:
    mine = bearer(issue(api, role=role)["token"])
    for method, path, name in calls(app):
        if name in OPEN or name == "sign_out":
            continue
        filled = re.sub(r"\{\w+\}", "01936f5e-7c1a-7a3e-8f00-0242ac120002", path)
        refused = api.request(method, filled, headers=mine).status_code == 403
        assert refused == (NEEDS[name] not in ROLES[role]), f"{method} {path}"


def test_an_administrator_of_another_organisation_finds_nothing(
    api: TestClient, app: FastAPI, things: dict[str, str]
) -> None:
    other = bootstrap.add_organisation(app.state.database, "other bank", email="eva@other.example", password=None)
    theirs = bearer(other.text)
    for method, path, name in calls(app):
        if "{" not in path or name in OPEN | EVERYBODYS:
            continue
        real = filled(path, things)
        body = {"json": _body(name)} if method in {"POST", "PATCH", "PUT"} else {}
        answer = api.request(method, real, headers=theirs | {"If-Match": "*"}, params=_query(name), **body)
        assert answer.status_code == 404, f"{method} {real}: {answer.text}"
        if method == "GET" and name != "follow_run":  # which ends with the run
            assert api.get(real, params=_query(name)).status_code in {200, 404}, real
    for method, path, name in calls(app):
        if method == "GET" and "{" not in path and name.startswith("list_") and name not in EVERYBODYS:
            items = api.get(path, headers=theirs).json()["items"]
            assert not {item.get("id") for item in items} & {*things.values()}, path


def _body(name: str) -> dict[str, Any]:
    any_id = "01936f5e-7c1a-7a3e-8f00-0242ac120002"
    bodies: dict[str, dict[str, Any]] = {
        "ask_for_preview": {"model_version_id": any_id, "behavior_version_id": any_id},
        "change_user": {"role": "admin"},
        "decide_on_approval": {"decision": "accepted", "digest": "0" * 64},
        "respond_to_finding": {"text": "x"},
        "record_mitigation": {"title": "x", "description": "x", "fitted_on": "x"},
    }
    return bodies.get(name, {})


def _query(name: str) -> dict[str, str]:
    return {"form": "raw", "direction": "denoise"} if name == "list_effects" else {}


def test_no_body_takes_an_id_of_another_organisation(
    api: TestClient, app: FastAPI, things: dict[str, str], model_folder: Path
) -> None:
    other = bootstrap.add_organisation(app.state.database, "other bank", email="eva@other.example", password=None)
    metrics, run = [things["metric_id"]], things["run_id"]
    foreign = {
        "model_version_id": things["/model-versions/{version_id}"],
        "behavior_version_id": things["/behavior-versions/{version_id}"],
        "pair_set_id": things["pair_set_id"],
    }
    with TestClient(app, raise_server_exceptions=False, headers=bearer(other.text)) as theirs:
        audit = Audit(theirs, model_folder)
        plan, own_run = audit.plan(), audit.run()
        own = {name: plan[name] for name in foreign}
        terms = own | {"judging": {"delta_nats": 0.1}}
        refused = [
            *(("plans", terms | {name: value}) for name, value in foreign.items()),
            ("plans", terms | {"metric_ids": metrics}),
            ("runs", {"plan_id": things["plan_id"]}),
            ("pair-sets", {"behavior_version_id": foreign["behavior_version_id"]}),
            *((f"pair-sets/{own['pair_set_id']}/previews", _only(own, foreign, name)) for name in list(foreign)[:2]),
            ("approvals", {"record": "plan", "plan_id": things["plan_id"], "digest": "0" * 64}),
            ("approvals", {"record": "verdict", "run_id": run, "digest": "0" * 64}),
            ("revalidations", {"model_version_id": own["model_version_id"], "earlier_run_id": run}),
            ("revalidations", {"model_version_id": foreign["model_version_id"], "earlier_run_id": own_run["id"]}),
        ]
        for path, body in refused:
            answer = theirs.post(f"/v1/{path}", json=body)
            # A run that is not completed is said so before its new version is looked up.
            assert answer.status_code == (409 if body.get("earlier_run_id") == own_run["id"] else 404), (path, body)


def _only(own: dict[str, str], foreign: dict[str, str], name: str) -> dict[str, str]:
    """What a preview asks for, with one id of another organisation."""
    both = {one: own[one] for one in ("model_version_id", "behavior_version_id")}
    return both | {name: foreign[name]}
