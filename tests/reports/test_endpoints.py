import hashlib
from typing import Any

import pytest
from fastapi.testclient import TestClient

from audit_service.audits import lifecycle
from audit_service.client import Client
from audit_service.db.handles import Database
from audit_service.db.tables import BundlePartRow, BundleRow, ReportRow
from audit_service.dispatch import CPU, waiting
from audit_service.domain.lifecycle import RunState
from audit_service.errors import Unavailable
from audit_service.reports.repository import PART_BYTES, add_bundle
from tests.service import Audit

FILES = {"pdf": b"%PDF-1.7", "html": b"<p>x</p>", "json": b'{"title":"x"}', "docx": b"PK-docx"}
PACKED = bytes(range(256)) * (PART_BYTES // 256) + b"and a rest"


def row(run_id: str, *, edition: int = 1, pdf: bytes = FILES["pdf"], docx: bytes = FILES["docx"]) -> ReportRow:
    names = {"view": FILES["json"], "html": FILES["html"], "docx": docx}
    return ReportRow(run_id=run_id, language="en", edition=edition, pdf=pdf, digest="d", **names)


@pytest.fixture
def run(audit: Audit, database: Database) -> dict[str, Any]:
    run = audit.run()
    with database.writing() as session:
        session.add(row(run["id"]))
    return run


@pytest.fixture
def bundle(run: dict[str, Any], database: Database) -> BundleRow:
    with database.writing() as session:
        return add_bundle(session, run["id"], PACKED, edition=1, evidence_digest="e" * 64)


def complete(database: Database, run_id: str) -> None:
    with database.writing() as session:
        for state in (RunState.RUNNING, RunState.JUDGING, RunState.REPORTING, RunState.COMPLETED):
            lifecycle.move(session, run_id, state, by="worker:test")


def test_reports_are_listed_by_language(api: TestClient, run: dict[str, Any]) -> None:
    [report] = api.get(f"/v1/runs/{run['id']}/reports").json()
    assert (report["language"], report["edition"], report["digest"]) == ("en", 1, "d")


@pytest.mark.parametrize("name", FILES)
def test_each_format_is_downloaded_as_it_was_rendered(api: TestClient, run: dict[str, Any], name: str) -> None:
    answer = api.get(f"/v1/runs/{run['id']}/report", params={"format": name})
    assert answer.content == FILES[name]
    assert f"evidence-{run['id']}-en.{name}" in answer.headers["Content-Disposition"]
    assert answer.headers["ETag"] == f'"{hashlib.sha256(FILES[name]).hexdigest()}"'


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/pdf"),
        ("application/json", "application/json"),
        ("text/html;q=0.5, application/json;q=0.9", "application/json"),
        ("image/png, text/html;q=0.1", "text/html; charset=utf-8"),
        ("application/json;q=0, */*", "application/pdf"),
        ("application/json;q=much", "application/pdf"),
    ],
)
def test_without_a_format_the_accept_header_chooses(
    api: TestClient, run: dict[str, Any], accept: str, kind: str
) -> None:
    assert api.get(f"/v1/runs/{run['id']}/report", headers={"Accept": accept}).headers["Content-Type"] == kind


def test_the_youngest_edition_is_the_report_and_the_older_ones_are_kept(
    api: TestClient, run: dict[str, Any], database: Database
) -> None:
    with database.writing() as session:
        session.add(row(run["id"], edition=2, pdf=b"%PDF second", docx=b""))
    path = f"/v1/runs/{run['id']}/report"
    assert api.get(path).content == b"%PDF second"
    assert api.get(path, params={"edition": 1}).content == FILES["pdf"]
    assert "edition 3" in api.get(path, params={"edition": 3}).json()["detail"]
    assert [report["edition"] for report in api.get(f"{path}s").json()] == [2, 1]


def test_a_format_that_an_old_edition_lacks_is_asked_for_anew(
    api: TestClient, run: dict[str, Any], database: Database
) -> None:
    with database.writing() as session:
        session.add(row(run["id"], edition=2, docx=b""))
    answer = api.get(f"/v1/runs/{run['id']}/report", params={"format": "docx"})
    assert answer.status_code == 404
    assert "POST" in answer.json()["remedy"]


def test_a_language_that_was_not_rendered_names_those_that_were(api: TestClient, run: dict[str, Any]) -> None:
    answer = api.get(f"/v1/runs/{run['id']}/report", params={"language": "zh-Hant"})
    assert answer.status_code == 404
    assert "its reports are: en" in answer.json()["detail"]


def test_a_run_without_a_report_says_how_far_it_is(api: TestClient, audit: Audit) -> None:
    for path in ("report", "bundle"):
        answer = api.get(f"/v1/runs/{audit.run()['id']}/{path}")
        assert answer.status_code == 404
        assert "it is queued" in answer.json()["detail"]


def test_the_bundle_is_streamed_whole_under_its_digest(api: TestClient, run: dict[str, Any], bundle: BundleRow) -> None:
    answer = api.get(f"/v1/runs/{run['id']}/bundle")
    assert answer.content == PACKED
    assert answer.headers["ETag"] == f'"{bundle.digest}"'
    assert answer.headers["Content-Length"] == str(len(PACKED))
    [listed] = api.get(f"/v1/runs/{run['id']}/bundles").json()
    assert (listed["digest"], listed["size"], listed["edition"]) == (bundle.digest, len(PACKED), 1)


def test_a_bundle_that_the_client_has_is_not_sent_again(
    api: TestClient, run: dict[str, Any], bundle: BundleRow
) -> None:
    answer = api.get(f"/v1/runs/{run['id']}/bundle", headers={"If-None-Match": f'"{bundle.digest}"'})
    assert (answer.status_code, answer.content) == (304, b"")


def test_the_client_compares_the_bundle_with_its_digest(
    client: Client, run: dict[str, Any], bundle: BundleRow, database: Database
) -> None:
    assert b"".join(client.bundle(run["id"])) == PACKED
    with database.writing() as session:
        part = session.get_one(BundlePartRow, (bundle.id, 1))
        part.content = b"AND a rest"
    with pytest.raises(Unavailable, match="SHA-256"):
        b"".join(client.bundle(run["id"]))


def test_only_a_completed_run_gets_a_new_edition(
    api: TestClient, run: dict[str, Any], database: Database, client: Client
) -> None:
    assert api.post(f"/v1/runs/{run['id']}/reports").status_code == 409
    complete(database, run["id"])
    before = waiting(CPU)
    assert client.reissue(run["id"]).state is RunState.COMPLETED
    assert waiting(CPU) == before + 1
    [asked] = api.get("/v1/events", params={"kind": "report"}).json()["items"]
    assert (asked["actor"], asked["run_id"], asked["data"]["what"]) == ("user:admin@localhost", run["id"], "asked")
