import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from typer.testing import CliRunner, Result

from audit_service import cli
from audit_service.errors import InvalidInput, NotFound
from audit_service.identity import bootstrap
from audit_service.processes import kept_token
from audit_service.settings import get_settings
from tests.identity.made import add_user, issue, sign_in
from tests.service import Audit, bearer


@pytest.fixture
def connected(url: str, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_API_URL", url)
    monkeypatch.setenv("AUDIT_TOKEN", token)
    get_settings.cache_clear()


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(cli.app, list(arguments), **options)


def test_people_and_tokens_are_managed_from_the_command_line(connected: None) -> None:
    added = run("users", "add", "anna@bank.example", "--role", "analyst", input="a long secret\na long secret\n")
    assert "anna@bank.example is analyst now." in added.output
    assert "anna@bank.example" in run("users", "list").output
    assert (
        run("users", "change", "Anna@bank.example", "--role", "reviewer").output == "anna@bank.example is reviewer.\n"
    )
    assert "without access" in run("users", "change", "anna@bank.example", "--no-access").output
    assert isinstance(run("users", "change", "anna@bank.example").exception, InvalidInput)
    assert isinstance(run("users", "change", "nobody@bank.example", "--active").exception, NotFound)
    made = run("tokens", "add", "nightly", "--role", "auditor").output.strip()
    assert made.startswith("audit_")
    [listed] = [line for line in run("tokens", "list").output.splitlines() if "nightly" in line]
    assert made not in listed
    assert "is revoked" in run("tokens", "revoke", listed.split()[0]).output


def test_the_operator_helps_who_cannot_help_themselves_and_the_log_says_so(
    api: TestClient, database_url: str, token: str
) -> None:
    add_user(api, "anna@bank.example", "analyst")
    session = sign_in(api, "anna@bank.example").json()["token"]
    other = "another long secret"
    assert run("operator", "reset-password", "anna@bank.example", input="short\nshort\n").exit_code == 1
    assert run("operator", "reset-password", "Anna@bank.example", input=f"{other}\n{other}\n").exit_code == 0
    assert api.get("/v1/me", headers=bearer(session)).status_code == 401
    assert sign_in(api, "anna@bank.example").status_code == 401
    session = sign_in(api, "anna@bank.example", other).json()["token"]

    assert run("operator", "deactivate", "anna@bank.example").exit_code == 0
    assert api.get("/v1/me", headers=bearer(session)).status_code == 401
    assert sign_in(api, "anna@bank.example", other).status_code == 401
    assert run("operator", "activate", "anna@bank.example").exit_code == 0
    assert sign_in(api, "anna@bank.example", other).status_code == 201

    changed = api.get("/v1/events", params={"actor": "operator", "kind": "user"}).json()["items"]
    assert [(event["data"]["what"], event["data"].get("active")) for event in changed] == [
        ("password", None),
        ("access", False),
        ("access", True),
    ]
    assert api.get("/v1/events/check").json()["broken_at"] is None


def test_a_lost_token_is_replaced_and_worth_nothing_any_more(api: TestClient, database_url: str, token: str) -> None:
    lost = issue(api, role="auditor", scopes=["read", "self"])
    found = run("operator", "reissue-token", lost["id"], "--days", "5").output.strip()
    assert api.get("/v1/me", headers=bearer(lost["token"])).status_code == 401
    me = api.get("/v1/me", headers=bearer(found)).json()
    assert (me["name"], me["role"], me["permissions"]) == ("token:build", "auditor", ["read", "self"])

    own = run("operator", "reissue-token", "admin@localhost").output.strip()
    assert api.get("/v1/me").status_code == 401
    assert api.get("/v1/me", headers=bearer(own)).json()["role"] == "admin"
    assert own not in run("operator", "reissue-token", "admin@localhost", "--keep").output
    own = kept_token(get_settings()) or ""
    log = api.get("/v1/events", params={"actor": "operator", "kind": "token"}, headers=bearer(own)).json()["items"]
    assert [event["data"]["what"] for event in log][-4:] == ["revoked", "issued", "revoked", "issued"]


@pytest.mark.parametrize("of", ["eva@bank.example", "01936f5e-7c1a-7a3e-8f00-0242ac120002", "x"])
def test_nobody_is_helped_who_is_not_there(api: TestClient, database_url: str, of: str) -> None:
    answer = run("operator", "reissue-token", of)
    assert isinstance(answer.exception, NotFound)


def test_who_works_for_several_organisations_is_helped_in_one_that_is_named(
    api: TestClient, app: FastAPI, token: str
) -> None:
    bootstrap.add_organisation(app.state.database, "other bank", email="admin@localhost", password=None)
    answer = run("operator", "reissue-token", "admin@localhost")
    assert isinstance(answer.exception, InvalidInput)
    assert answer.exception.details == ["first organisation", "other bank"]
    found = run("operator", "reissue-token", "admin@localhost", "--organisation", "other bank").output.strip()
    assert api.get("/v1/organisation", headers=bearer(found)).json()["name"] == "other bank"
    assert api.get("/v1/me").status_code == 200


def test_an_exported_log_is_checked_without_the_service(
    api: TestClient, audit: Audit, tmp_path: Path, connected: None
) -> None:
    audit.run()
    file = tmp_path / "events.ndjson"
    assert run("export-log", str(file)).exit_code == 0
    assert file.read_text() == api.get("/v1/events/export").text
    assert run("check-log", str(file)).exit_code == 0
    lines = file.read_text().splitlines()
    changed = json.loads(lines[1]) | {"actor": "user:eva@bank.example"}
    file.write_text("\n".join([lines[0], json.dumps(changed), *lines[2:]]))
    answer = run("check-log", str(file))
    assert answer.exit_code == 1
    assert "Entry 2 DOES NOT HOLD" in answer.output
