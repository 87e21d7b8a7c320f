"""Something of everything in one organisation, for tests that walk every call."""

import re

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func

from audit_service.db.handles import Database
from audit_service.db.tables import MessageRow, OccurrenceRow, TargetRow
from audit_service.domain.notifications import TargetKind
from audit_service.domain.plan import Plan
from audit_service.domain.schedules import OccurrenceKind
from audit_service.library.catalogue import entries
from tests.findings.made import KEY, add_findings
from tests.identity.made import add_user, issue
from tests.service import Audit
from tests.sharing.made import add_bundle


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
        "/library/{name}": entries()[0].name,
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


def _share(api: TestClient, database: Database, run_id: str) -> str:
    add_bundle(database, run_id)
    share_id: str = api.post(f"/v1/runs/{run_id}/shares", json={}).json()["id"]
    return share_id


def id_of(name: str, path: str, things: dict[str, str]) -> str:
    """Of what is there: by the parameter's name or, where names repeat, by the whole path."""
    return things.get(name) or next(value for key, value in things.items() if key in path)


def filled(path: str, things: dict[str, str]) -> str:
    """The path with what is there."""
    return re.sub(r"\{(\w+)\}", lambda found: id_of(found[1], path, things), path)
