import json
import logging

import pytest
from fastapi.testclient import TestClient

from audit_service.logs import REQUESTS, configure
from tests.service import Audit


def metric(api: TestClient, name: str) -> list[str]:
    answer = api.get("/metrics")
    assert answer.status_code == 200
    return [line for line in answer.text.splitlines() if line.startswith(name)]


def test_requests_are_counted_by_call_and_status(api: TestClient) -> None:
    for _ in range(2):
        api.get("/v1/models")
    api.get("/v1/runs/01936f5e-7c1a-7a3e-8f00-0242ac120002")
    counted = metric(api, "audit_requests_total")
    assert 'audit_requests_total{call="list_models",method="GET",status="200"} 2.0' in counted
    assert 'audit_requests_total{call="get_run",method="GET",status="404"} 1.0' in counted


def test_runs_and_waiting_work_are_shown_without_any_organisations_name(api: TestClient, audit: Audit) -> None:
    run = audit.run()
    assert 'audit_runs{state="queued"} 1.0' in metric(api, "audit_runs")
    assert 'audit_waiting_messages{queue="cpu"} 1.0' in metric(api, "audit_waiting_messages")
    assert run["id"] not in api.get("/metrics").text


def test_a_request_is_one_line_with_who_asked_and_about_which_run(
    api: TestClient, audit: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    before = logging.getLogger().handlers[:]
    run_id = audit.run()["id"]
    try:
        configure(as_json=True)
        answer = api.get(f"/v1/runs/{run_id}")
    finally:
        logging.getLogger().handlers[:] = before
        logging.getLogger(REQUESTS).setLevel(logging.NOTSET)
    [line] = [json.loads(line) for line in capsys.readouterr().err.splitlines() if '"call"' in line]
    assert (line["call"], line["status"], line["run"]) == ("get_run", 200, run_id)
    assert (line["caller"], line["request"]) == ("user:admin@localhost", answer.headers["X-Request-ID"])


def test_answers_are_kept_by_no_cache_and_guessed_to_be_nothing_else(api: TestClient) -> None:
    for path in ("/v1/me", "/v1/shared/share_secret", "/healthz", "/nothing"):
        headers = api.get(path).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


def test_a_links_secret_stands_in_no_log(api: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:]
    try:
        configure(as_json=True)
        api.get("/v1/shared/share_secret")
    finally:
        logging.getLogger().handlers[:] = before
        logging.getLogger(REQUESTS).setLevel(logging.NOTSET)
    assert "share_secret" not in capsys.readouterr().err
