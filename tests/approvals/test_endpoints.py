import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from audit_service.approvals import service
from audit_service.db.handles import Database
from audit_service.db.tables import ApprovalRow, RunRow
from audit_service.domain.approvals import Decision
from audit_service.domain.manifest import digest
from audit_service.domain.plan import Plan
from tests.findings.made import add_findings
from tests.identity.made import add_user, issue, sign_in
from tests.revalidation.made import complete
from tests.service import Audit, bearer
from tests.sharing.made import add_bundle


@pytest.fixture
def reviewer(api: TestClient) -> dict[str, str]:
    add_user(api, "rita@bank.example", "reviewer")
    return bearer(sign_in(api, "rita@bank.example").json()["token"])


@pytest.fixture
def run(audit: Audit, database: Database) -> dict[str, Any]:
    """A run with a verdict and a report."""
    run = audit.run()
    add_findings(database, run["id"], Plan.model_validate(audit.plan()["content"], strict=False))
    add_bundle(database, run["id"])
    return run


def submit(
    api: TestClient, status: int = 201, *, headers: dict[str, str] | None = None, **wanted: Any
) -> dict[str, Any]:
    answer = api.post("/v1/approvals", json=wanted, headers=headers)
    assert answer.status_code == status, answer.text
    made: dict[str, Any] = answer.json()
    return made


def decide(api: TestClient, made: dict[str, Any], by: dict[str, str], **changes: Any) -> Any:
    body = {"decision": "accepted", "digest": made["record_digest"]} | changes
    return api.post(f"/v1/approvals/{made['id']}/decision", json=body, headers=by)


def test_each_kind_of_record_passes_preparer_and_reviewer(
    api: TestClient, audit: Audit, run: dict[str, Any], reviewer: dict[str, str], database: Database
) -> None:
    plan = audit.plan()
    verdict = api.get(f"/v1/runs/{run['id']}/verdict").json()
    [report] = api.get(f"/v1/runs/{run['id']}/reports").json()
    risk = {"kind": "risk", "reason": "Known.", "expires": (datetime.now(UTC) + timedelta(days=30)).isoformat()}
    made = [
        submit(api, record="plan", plan_id=plan["id"], digest=plan["digest"]),
        submit(api, record="verdict", run_id=run["id"], digest=verdict["digest"], comment="Please look."),
        submit(api, record="report", run_id=run["id"], digest=report["digest"]),
        submit(api, record="risk_acceptance", run_id=run["id"], acceptance=risk),
    ]
    for one in made:
        answer = decide(api, one, reviewer, comment="Read.").json()
        assert (answer["state"], answer["preparer"], answer["reviewer"]) == (
            "accepted",
            "user:admin@localhost",
            "user:rita@bank.example",
        )
    with database.reading() as session:
        rows = service.on_record(session, session.get_one(RunRow, run["id"]))
        trail = service.decisions(rows)
    assert [(one.record.value, one.decision) for one in trail] == [
        (record, decision)
        for record in ("plan", "verdict", "report", "risk_acceptance")
        for decision in (Decision.SUBMITTED, Decision.ACCEPTED)
    ]
    assert rows[3].acceptance is not None
    assert rows[3].record_digest == digest(rows[3].acceptance)
    events = api.get("/v1/events", params={"kind": "approval"}).json()["items"]
    assert [event["data"]["to"] for event in events] == ["submitted"] * 4 + ["accepted"] * 4
    assert events[4]["data"]["digest"] == plan["digest"]


def test_the_preparer_is_never_the_reviewer(api: TestClient, audit: Audit, database: Database) -> None:
    plan = audit.plan()
    made = submit(api, record="plan", plan_id=plan["id"], digest=plan["digest"])
    answer = decide(api, made, {})
    assert (answer.status_code, answer.json()["detail"]) == (
        403,
        "Nobody decides on what they planned, ran or submitted.",
    )
    cheat = "UPDATE approvals SET state = 'accepted', reviewer_id = prepared_by[1], decided_at = now()"
    with pytest.raises(IntegrityError, match="four_eyes"), database.writing() as session:
        session.execute(text(cheat))


def test_who_planned_or_ran_it_never_decides_on_it_whoever_submits_it(
    api: TestClient, audit: Audit, reviewer: dict[str, str], database: Database
) -> None:
    people = {name: _administrator(api, f"{name}@bank.example") for name in ("planner", "runner", "submitter", "maker")}
    plan = audit.plan()  # of admin@localhost: the planner's is another
    terms = {name: plan[name] for name in ("model_version_id", "behavior_version_id", "pair_set_id")}
    planned = api.post("/v1/plans", json=terms | {"judging": {"delta_nats": 0.2}}, headers=people["planner"]).json()
    service_token = api.post("/v1/tokens", json={"name": "ci", "role": "analyst"}, headers=people["maker"]).json()
    for who, others in (("runner", people["runner"]), ("maker", bearer(service_token["token"]))):
        run = api.post("/v1/runs", json={"plan_id": planned["id"]}, headers=others).json()
        verdict = complete(database, run["id"])
        made = submit(api, record="verdict", run_id=run["id"], digest=verdict, headers=people["submitter"])
        for name in ("planner", who, "submitter"):
            assert decide(api, made, people[name]).status_code == 403, name
        assert decide(api, made, reviewer).status_code == 200


def _administrator(api: TestClient, email: str) -> dict[str, str]:
    add_user(api, email, "admin")
    return bearer(sign_in(api, email).json()["token"])


def test_a_service_signs_nothing(api: TestClient, audit: Audit, reviewer: dict[str, str]) -> None:
    plan = audit.plan()
    wanted = {"record": "plan", "plan_id": plan["id"], "digest": plan["digest"]}
    service_token = bearer(issue(api, role="admin")["token"])
    assert api.post("/v1/approvals", json=wanted, headers=service_token).status_code == 403
    assert decide(api, submit(api, **wanted), service_token).status_code == 403


@pytest.mark.parametrize("decision", ["accepted", "accepted_with_conditions", "returned", "rejected"])
def test_a_decision_is_final(
    api: TestClient, audit: Audit, reviewer: dict[str, str], database: Database, decision: str
) -> None:
    plan = audit.plan()
    made = submit(api, record="plan", plan_id=plan["id"], digest=plan["digest"])
    assert decide(api, made, reviewer, decision=decision).json()["state"] == decision
    again = decide(api, made, reviewer, decision="rejected")
    assert (again.status_code, "anew" in again.json()["remedy"]) == (409, True)
    with database.writing() as session:  # nor does the database let a tenant change it
        session.execute(text("UPDATE approvals SET decision_comment = 'changed'"))
    with database.reading() as session:
        assert session.get_one(ApprovalRow, made["id"]).decision_comment == ""


def test_both_sign_for_the_digest_that_the_record_has(api: TestClient, audit: Audit, reviewer: dict[str, str]) -> None:
    plan = audit.plan()
    refused = submit(api, 409, record="plan", plan_id=plan["id"], digest="0" * 64)
    assert refused["errors"] == [{"detail": plan["digest"], "pointer": None}]
    made = submit(api, record="plan", plan_id=plan["id"], digest=plan["digest"])
    assert decide(api, made, reviewer, digest="0" * 64).status_code == 409
    assert api.get(f"/v1/approvals/{made['id']}").json()["state"] == "submitted"


@pytest.mark.parametrize(
    "wanted",
    [
        {"record": "plan", "digest": "0" * 64},
        {"record": "verdict", "plan_id": "01936f5e-7c1a-7a3e-8f00-0242ac120002"},
        {"record": "risk_acceptance", "run_id": "01936f5e-7c1a-7a3e-8f00-0242ac120002"},
        {
            "record": "risk_acceptance",
            "run_id": "01936f5e-7c1a-7a3e-8f00-0242ac120002",
            "acceptance": {"kind": "risk", "reason": "Known.", "expires": "2020-01-01T00:00:00Z"},
        },
    ],
)
def test_a_submission_that_does_not_fit_its_record_is_refused(api: TestClient, wanted: dict[str, Any]) -> None:
    assert submit(api, 422, **wanted)["remedy"]


def test_a_run_that_is_not_judged_has_nothing_to_decide_on(api: TestClient, audit: Audit) -> None:
    refused = submit(api, 409, record="verdict", run_id=audit.run()["id"], digest="0" * 64)
    assert "it is queued" in refused["detail"]


def test_what_has_ended_meanwhile_is_not_accepted_any_more(
    api: TestClient, run: dict[str, Any], reviewer: dict[str, str]
) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=0.5)
    risk = {"kind": "risk", "reason": "Known.", "expires": ends.isoformat()}
    made = submit(api, record="risk_acceptance", run_id=run["id"], acceptance=risk)
    time.sleep(max(0.0, (ends - datetime.now(UTC)).total_seconds()))
    assert decide(api, made, reviewer).status_code == 409
    assert decide(api, made, reviewer, decision="rejected").status_code == 200


def test_what_waits_for_a_reviewer_is_listed(api: TestClient, audit: Audit, reviewer: dict[str, str]) -> None:
    plan = audit.plan()
    first, second = (submit(api, record="plan", plan_id=plan["id"], digest=plan["digest"]) for _ in range(2))
    decide(api, first, reviewer)
    waiting = api.get("/v1/approvals", params={"state": "submitted", "plan_id": plan["id"]}).json()["items"]
    assert [one["id"] for one in waiting] == [second["id"]]
