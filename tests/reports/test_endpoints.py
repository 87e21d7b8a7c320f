from typing import Any

import pytest
from fastapi.testclient import TestClient

from audit_service.db.handles import Database
from audit_service.db.tables import ReportRow
from tests.service import Audit


@pytest.fixture
def run(audit: Audit, database: Database) -> dict[str, Any]:
    run = audit.run()
    with database.writing() as session:
        session.add(ReportRow(run_id=run["id"], language="en", pdf=b"%PDF-1.7", view=b'{"title":"x"}', digest="d"))
    return run


def test_reports_are_listed_by_language(api: TestClient, run: dict[str, Any]) -> None:
    [report] = api.get(f"/v1/runs/{run['id']}/reports").json()
    assert (report["language"], report["digest"]) == ("en", "d")


def test_the_pdf_and_its_view_are_downloaded_as_they_were_rendered(api: TestClient, run: dict[str, Any]) -> None:
    pdf = api.get(f"/v1/runs/{run['id']}/report")
    assert (pdf.content, pdf.headers["Content-Type"]) == (b"%PDF-1.7", "application/pdf")
    assert f"evidence-{run['id']}-en.pdf" in pdf.headers["Content-Disposition"]
    view = api.get(f"/v1/runs/{run['id']}/report", params={"format": "json"})
    assert view.json() == {"title": "x"}


def test_a_language_that_was_not_rendered_names_those_that_were(api: TestClient, run: dict[str, Any]) -> None:
    answer = api.get(f"/v1/runs/{run['id']}/report", params={"language": "zh-Hant"})
    assert answer.status_code == 404
    assert "its reports are: en" in answer.json()["detail"]


def test_a_run_without_a_report_says_how_far_it_is(api: TestClient, audit: Audit) -> None:
    answer = api.get(f"/v1/runs/{audit.run()['id']}/report")
    assert answer.status_code == 404
    assert "it is queued, and its reports are: none" in answer.json()["detail"]
