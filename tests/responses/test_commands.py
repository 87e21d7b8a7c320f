"""What is put on record beside a verdict, from a terminal, against a service that answers."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from audit_service import cli
from audit_service.db.handles import Database
from audit_service.domain.plan import Plan
from audit_service.errors import Conflict, InvalidInput, NotFound
from audit_service.settings import get_settings
from tests.findings.made import add_findings
from tests.service import Audit


@pytest.fixture
def run(url: str, token: str, audit: Audit, database: Database, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run that was judged, and the administrator's terminal."""
    monkeypatch.setenv("AUDIT_API_URL", url)
    monkeypatch.setenv("AUDIT_TOKEN", token)
    get_settings.cache_clear()
    made: str = audit.run()["id"]
    add_findings(database, made, Plan.model_validate(audit.plan()["content"], strict=False))
    return made


def type_in(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def test_management_answers_a_finding(run: str) -> None:
    made = type_in("responses", "add", run, "--text", "Accepted.", "--action", "Retrain.", "--due", "2027-03-01")
    assert "behavior, user:admin@localhost" in made.output
    assert "Retrain. (nobody named by 2027-03-01)" in made.output
    assert type_in("responses", "list", run).output == made.output
    assert isinstance(type_in("responses", "add", run, "--text", "").exception, InvalidInput)


def test_a_measure_needs_a_run_that_repeats_another_and_side_effects_that_can_be_read(run: str, tmp_path: Path) -> None:
    told = ("--title", "Steering", "--description", "Layer 12", "--fitted-on", "Other pairs")
    assert isinstance(type_in("mitigations", "add", run, *told).exception, Conflict | NotFound)
    assert type_in("mitigations", "list", run).output == ""
    file = tmp_path / "effects.json"
    for content in (None, "{}", '[{"name": "x"}]'):
        if content is not None:
            file.write_text(content)
        refused = type_in("mitigations", "add", run, *told, "--side-effects", str(file))
        assert isinstance(refused.exception, InvalidInput), content


def test_a_version_is_in_use_until_it_is_not(run: str) -> None:
    made = type_in("deployments", "add", "tiny", "1", "production", "--since", "2026-01-05")
    assert "tiny 1 in production since 2026-01-05, user:admin@localhost" in made.output
    ended = type_in("deployments", "end", made.output.split()[0])
    assert " until " in ended.output
    assert type_in("deployments", "list", "--model", "tiny").output == ended.output
    assert isinstance(type_in("deployments", "add", "tiny", "9", "production").exception, NotFound)
