"""Two people and their commands, and what an auditor fetches, against a service that answers."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner, Result

from audit_service import cli
from audit_service.db.handles import Database
from audit_service.domain.plan import Plan
from audit_service.errors import Cancelled, Conflict, Forbidden, InvalidInput, NotFound
from audit_service.settings import get_settings
from tests.findings.made import add_findings
from tests.identity.made import add_user, sign_in
from tests.service import Audit
from tests.sharing.made import PDF, add_bundle


class Person:
    """Somebody at a terminal."""

    def __init__(self, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._token, self._monkeypatch = token, monkeypatch

    def __call__(self, *arguments: str, **options: Any) -> Result:
        self._monkeypatch.setenv("AUDIT_TOKEN", self._token)
        get_settings.cache_clear()
        return CliRunner().invoke(cli.app, list(arguments), **options)


@pytest.fixture
def analyst(url: str, token: str, api: TestClient, monkeypatch: pytest.MonkeyPatch) -> Person:
    monkeypatch.setenv("AUDIT_API_URL", url)
    add_user(api, "anna@bank.example", "analyst")
    return Person(sign_in(api, "anna@bank.example").json()["token"], monkeypatch)


@pytest.fixture
def reviewer(api: TestClient, analyst: Person, monkeypatch: pytest.MonkeyPatch) -> Person:
    add_user(api, "rita@bank.example", "reviewer")
    return Person(sign_in(api, "rita@bank.example").json()["token"], monkeypatch)


@pytest.fixture
def run(audit: Audit, database: Database) -> str:
    """A run with a verdict and a report."""
    made: str = audit.run()["id"]
    add_findings(database, made, Plan.model_validate(audit.plan()["content"], strict=False))
    add_bundle(database, made)
    return made


def test_a_plan_is_submitted_and_accepted_by_two_people(analyst: Person, reviewer: Person, audit: Audit) -> None:
    plan = audit.plan()
    asked = analyst("approve", "submit", "plan", plan["id"], input="y\n")
    assert plan["digest"] in asked.output
    approval = reviewer("approve", "list").output.split()[0]
    assert isinstance(analyst("approve", "decide", approval, "accepted", input="y\n").exception, Forbidden)
    decided = reviewer("approve", "decide", approval, "accepted", "--digest", plan["digest"], "--comment", "Fine.")
    assert "accepted by user:rita@bank.example" in decided.output
    assert reviewer("approve", "list").output == ""
    assert approval in reviewer("approve", "list", "--all").output


def test_a_report_is_signed_for_by_the_file_that_was_read(
    analyst: Person, reviewer: Person, run: str, tmp_path: Path
) -> None:
    file = tmp_path / "report.pdf"
    assert reviewer("report", run, "--out", str(file)).exit_code == 0
    assert file.read_bytes() == PDF
    assert analyst("approve", "submit", "report", run, "--file", str(file)).exit_code == 0
    assert analyst("approve", "submit", "verdict", run, input="y\n").exit_code == 0
    newest, report = [line.split()[0] for line in reviewer("approve", "list", "--run", run).output.splitlines()[::2]]
    assert reviewer("approve", "decide", report, "returned", "--file", str(file)).exit_code == 0
    file.write_bytes(b"another")
    refused = reviewer("approve", "decide", newest, "accepted", "--file", str(file))
    assert isinstance(refused.exception, Conflict)


def test_who_has_not_read_it_signs_nothing(analyst: Person, reviewer: Person, audit: Audit) -> None:
    answer = analyst("approve", "submit", "plan", audit.plan()["id"], input="n\n")
    assert isinstance(answer.exception, Cancelled)
    assert reviewer("approve", "list").output == ""


def test_a_risk_is_accepted_until_a_day(analyst: Person, reviewer: Person, run: str) -> None:
    day = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
    made = analyst("approve", "accept-risk", run, "--reason", "Known.", "--expires", day, "--conditions", "Watched.")
    assert "risk_acceptance of run" in made.output
    approval = made.output.split()[0]
    decided = reviewer("approve", "decide", approval, "accepted_with_conditions", input="y\n")
    assert "accepted_with_conditions by user:rita@bank.example" in decided.output


def test_links_are_made_listed_opened_and_revoked(reviewer: Person, api: TestClient, url: str, run: str) -> None:
    link = reviewer("share", "add", run, "--days", "5", "--note", "the supervisor").output.strip()
    assert link.startswith(f"{url}/v1/shared/")
    assert api.get(link.removeprefix(url), headers={"Authorization": ""}).status_code == 200
    listed = reviewer("share", "list", "--run", run).output
    assert "the supervisor" in listed
    assert reviewer("share", "revoke", listed.split()[0]).exit_code == 0
    assert "revoked" in reviewer("share", "list").output
    assert api.get(link.removeprefix(url), headers={"Authorization": ""}).status_code == 410


def test_runs_are_listed_with_what_they_audit(reviewer: Person, run: str) -> None:
    assert f"{run}  " in reviewer("runs").output
    assert "loan-denial-race on tiny 1" in reviewer("runs").output
    assert reviewer("runs", "--state", "failed").output == ""


def test_a_report_that_is_not_there_writes_no_file(reviewer: Person, audit: Audit, tmp_path: Path) -> None:
    answer = reviewer("report", audit.run()["id"], "--out", str(tmp_path / "x.pdf"))
    assert isinstance(answer.exception, NotFound | Conflict)
    assert list(tmp_path.glob("x.pdf")) == []


@pytest.mark.parametrize(
    "asked",
    [
        ["decide", "01936f5e-7c1a-7a3e-8f00-0242ac120002", "accepted", "--digest", "abc"],
        ["decide", "01936f5e-7c1a-7a3e-8f00-0242ac120002", "submitted"],
        ["submit", "plan", "mine", "--digest", "0" * 64],
        ["submit", "risk_acceptance", "mine"],
        ["submit", "report", "mine", "--file", "nowhere.pdf"],
        ["accept-risk", "mine", "--reason", "", "--expires", "2027-01-01"],
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_remedy(analyst: Person, asked: list[str]) -> None:
    answer = analyst("approve", *asked)
    assert isinstance(answer.exception, InvalidInput)
    assert answer.exception.remedy
