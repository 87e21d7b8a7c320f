"""Completed and accepted runs, without a worker."""

from fastapi.testclient import TestClient

from audit_service.audits import lifecycle
from audit_service.db.handles import Database
from audit_service.db.tables import VerdictRow
from audit_service.domain.lifecycle import RunState
from audit_service.domain.manifest import digest
from audit_service.domain.results import Judgement, Sentence, Verdict, VerdictValue
from tests.identity.made import add_user, sign_in
from tests.service import bearer

_WAY = (RunState.RUNNING, RunState.JUDGING, RunState.REPORTING, RunState.COMPLETED)


def complete(database: Database, run_id: str) -> str:
    """Bring a queued run to its end, with a verdict; the verdict's digest."""
    verdict = Verdict(scope="behavior", value=VerdictValue.PASS, reasons=(Sentence(id="verdict.nothing"),))
    judgement = Judgement(verdict=verdict, forms=(verdict,), results=(), protocol=(), controls=())
    with database.writing() as session:
        session.add(VerdictRow(run_id=run_id, value=verdict.value, judgement=judgement, digest=digest(judgement)))
        session.flush()
        for state in _WAY:
            lifecycle.move(session, run_id, state, by="test")
    return digest(judgement)


def accept(api: TestClient, run_id: str, digest: str) -> None:
    """Put the verdict before a reviewer, who accepts it."""
    add_user(api, "rita@bank.example", "reviewer")
    wanted = {"record": "verdict", "run_id": run_id, "digest": digest}
    made = api.post("/v1/approvals", json=wanted)
    assert made.status_code == 201, made.text
    reviewer = bearer(sign_in(api, "rita@bank.example").json()["token"])
    decision = {"decision": "accepted", "digest": digest}
    answer = api.post(f"/v1/approvals/{made.json()['id']}/decision", json=decision, headers=reviewer)
    assert answer.status_code == 200, answer.text


def accepted(api: TestClient, database: Database, run_id: str) -> str:
    """A queued run as one that a reviewer accepted."""
    accept(api, run_id, complete(database, run_id))
    return run_id
