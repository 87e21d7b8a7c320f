from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text

from audit_service import dispatch
from audit_service.app import create_app
from audit_service.db.base import new_id
from audit_service.identity.bearer import Bearer
from audit_service.identity.bootstrap import FIRST_ORGANISATION
from audit_service.settings import Settings, get_settings
from tests.folders import free_port
from tests.service import bearer


def test_a_service_with_all_its_parts_is_alive_and_ready(api: TestClient) -> None:
    assert api.get("/healthz").json() == {"status": "ok"}
    assert api.get("/readyz").json() == {"status": "ok", "overdue_schedules": 0}


def test_without_a_database_it_is_alive_and_not_ready_and_no_call_breaks(database_url: str) -> None:
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    token = Bearer.issue("audit", organisation_id=FIRST_ORGANISATION, id=new_id()).text
    with TestClient(create_app(Settings(database_url=nowhere, model_roots=(Path("/"),))), headers=bearer(token)) as api:
        assert api.get("/healthz").status_code == 200
        for path in ("/readyz", "/v1/models", "/v1/runs"):
            answer = api.get(path)
            assert answer.status_code == 503
            assert answer.json()["type"] == "urn:audit-service:database-down"
            assert "AUDIT_DATABASE_URL" in answer.json()["remedy"]


def test_a_database_behind_its_migrations_is_not_ready(app: FastAPI, api: TestClient) -> None:
    with app.state.database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    answer = api.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:audit-service:database-behind"
    assert "audit-service migrate" in answer.json()["remedy"]


def test_calls_to_a_database_behind_its_migrations_say_so_too(app: FastAPI, api: TestClient) -> None:
    with app.state.database.writing() as session:
        session.execute(text("ALTER TABLE plans DROP COLUMN protocol"))
    answer = api.get("/v1/plans")
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:audit-service:database-behind"


def test_without_a_broker_it_is_not_ready(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_BROKER_URL", f"redis://127.0.0.1:{free_port()}/0")
    get_settings.cache_clear()
    dispatch.celery.cache_clear()
    answer = api.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:audit-service:broker-down"
