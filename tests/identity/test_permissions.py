"""Every call × every role × a foreign organisation."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func

from audit_service.db.handles import Database
from audit_service.db.tables import MessageRow, OccurrenceRow, TargetRow
from audit_service.domain.notifications import TargetKind
from audit_service.domain.plan import Plan
from audit_service.domain.roles import ROLES, Permission, Role
from audit_service.domain.schedules import OccurrenceKind
from audit_service.identity import bootstrap
from audit_service.identity.permissions import NEEDS
from tests.findings.made import KEY, add_findings
from tests.identity.made import add_user, issue
from tests.service import Audit, bearer
from tests.sharing.made import add_bundle

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


@pytest.fixture
def things(audit: Audit, database: Database, api: TestClient) -> dict[str, str]:
    """The path parameters of things that are there, in one organisation."""
    run, plan = audit.run(), audit.plan()
    add_findings(database, run["id"], Plan.model_validate(plan["content"], strict=False))
    preview = audit.create(
        f"pair-sets/{plan['pair_set_id']}/previews",
        {"model_version_id": plan["model_version_id"], "behavior_version_id": plan["behavior_version_id"]},
    )
    metric = {"name": "x", "formula": "d", "title": "X", "unit": "nats"}
    schedule = audit.create("schedules", {"name": "s", "model": "tiny", "behavior": "loan-denial-race"})
    with database.writing() as session:
        occurrence = OccurrenceRow(
            schedule_id=schedule["id"], key="k", kind=OccurrenceKind.TIME, nominal_at=func.now(), due_at=func.now()
        )
        target = TargetRow(kind=TargetKind.WEBHOOK, address="https://x", topics=[], secret="s", created_by="x")
        session.add_all([occurrence, target])
        session.flush()
        message = MessageRow(target_id=target.id, topic="test", subject="s", body="{}")
        session.add(message)
        session.flush()
        rows = {"occurrence_id": occurrence.id, "target_id": target.id, "message_id": message.id}
    return {
        **rows,
        "schedule_id": schedule["id"],
        "deployment_id": audit.create(
            "deployments", {"model_version_id": plan["model_version_id"], "place": "production"}
        )["id"],
        "/model-versions/{version_id}": plan["model_version_id"],
        "/behavior-versions/{version_id}": plan["behavior_version_id"],
        "pair_set_id": plan["pair_set_id"],
        "plan_id": plan["id"],
        "run_id": run["id"],
        "preview_id": preview["id"],
        "metric_id": audit.create("metrics", metric)["id"],
        "result_id": str(api.get(f"/v1/runs/{run['id']}/results").json()["items"][0]["id"]),
        "shard_key": KEY,
        "approval_id": audit.create("approvals", {"record": "plan", "plan_id": plan["id"], "digest": plan["digest"]})[
            "id"
        ],
        "share_id": _share(api, database, run["id"]),
        "user_id": add_user(api, "anna@bank.example", "analyst")["id"],
        "token_id": issue(api, role="auditor")["id"],
    }


def test_an_administrator_of_another_organisation_finds_nothing(
    api: TestClient, app: FastAPI, things: dict[str, str]
) -> None:
    other = bootstrap.add_organisation(app.state.database, "other bank", email="eva@other.example", password=None)
    theirs = bearer(other.text)
    for method, path, name in calls(app):
        if "{" not in path or name in OPEN | EVERYBODYS:
            continue
        filled = _filled(path, things)
        body = {"json": _body(name)} if method in {"POST", "PATCH", "PUT"} else {}
        answer = api.request(method, filled, headers=theirs | {"If-Match": "*"}, params=_query(name), **body)
        assert answer.status_code == 404, f"{method} {filled}: {answer.text}"
        if method == "GET" and name != "follow_run":  # which ends with the run
            assert api.get(filled, params=_query(name)).status_code in {200, 404}, filled
    for method, path, name in calls(app):
        if method == "GET" and "{" not in path and name.startswith("list_") and name not in EVERYBODYS:
            items = api.get(path, headers=theirs).json()["items"]
            assert not {item.get("id") for item in items} & {*things.values()}, path


def _share(api: TestClient, database: Database, run_id: str) -> str:
    add_bundle(database, run_id)
    share_id: str = api.post(f"/v1/runs/{run_id}/shares", json={}).json()["id"]
    return share_id


def _filled(path: str, things: dict[str, str]) -> str:
    """The path with what is there, by the parameter's name or, where names repeat, by the whole path."""
    for name in re.findall(r"\{(\w+)\}", path):
        value = things.get(name) or next(value for key, value in things.items() if key in path)
        path = path.replace(f"{{{name}}}", value)
    return path


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
