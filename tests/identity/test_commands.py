import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from audit_service import cli
from audit_service.settings import get_settings
from tests.service import Audit


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
    made = run("tokens", "add", "nightly", "--role", "auditor").output.strip()
    assert made.startswith("audit_")
    [listed] = [line for line in run("tokens", "list").output.splitlines() if "nightly" in line]
    assert made not in listed
    assert "is revoked" in run("tokens", "revoke", listed.split()[0]).output


def test_an_exported_log_is_checked_without_the_service(api: Any, audit: Audit, tmp_path: Path) -> None:
    audit.run()
    file = tmp_path / "events.ndjson"
    file.write_text(api.get("/v1/events/export").text)
    assert run("check-log", str(file)).exit_code == 0
    lines = file.read_text().splitlines()
    changed = json.loads(lines[1]) | {"actor": "user:eva@bank.example"}
    file.write_text("\n".join([lines[0], json.dumps(changed), *lines[2:]]))
    answer = run("check-log", str(file))
    assert answer.exit_code == 1
    assert "Entry 2 DOES NOT HOLD" in answer.output
