"""Schedules from a terminal, against a service that answers."""

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner, Result

from audit_service import cli
from audit_service.client import Client
from audit_service.db.handles import Database
from audit_service.errors import Conflict, InvalidInput, NotFound
from audit_service.settings import get_settings
from tests.revalidation.made import accepted
from tests.service import Audit


@pytest.fixture
def _audited(api: TestClient, audit: Audit, database: Database) -> None:
    accepted(api, database, audit.run()["id"])


@pytest.fixture
def _service(url: str, token: str, _audited: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service with an accepted run, and the administrator's terminal."""
    monkeypatch.setenv("AUDIT_API_URL", url)
    monkeypatch.setenv("AUDIT_TOKEN", token)
    get_settings.cache_clear()


def type_in(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["schedules", *arguments])


ADD = ("add", "nightly", "--model", "tiny", "--behavior", "loan-denial-race")


@pytest.mark.usefixtures("_service")
def test_a_schedule_from_its_beginning_to_its_end(client: Client) -> None:
    made = type_in(*ADD, "--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--grace-hours", "48")
    assert "nightly: loan-denial-race on tiny, at 30 2 * * * Europe/Berlin and on every new version" in made.output
    changed = type_in("change", "nightly", "--name", "weekly", "--cron", "30 2 * * 1", "--not-on-new-version")
    assert "weekly: loan-denial-race on tiny, at 30 2 * * 1 Europe/Berlin, next" in changed.output
    [schedule] = client.schedules()
    assert (schedule.rule is not None and schedule.rule.cron, schedule.grace_hours) == ("30 2 * * 1", 48)
    assert "paused" in type_in("pause", schedule.id).output
    assert "paused" not in type_in("resume", "weekly").output
    assert schedule.id in type_in("list").output
    assert schedule.id in type_in("show", "weekly").output
    assert "retired" in type_in("retire", "weekly").output
    assert type_in("list").output == ""
    assert "retired" in type_in("list", "--all").output


@pytest.mark.usefixtures("_service")
def test_what_cannot_be_done_says_why() -> None:
    refused = {
        ("show", "nobody"): NotFound,
        ("show", "01936f5e-7c1a-7a3e-8f00-0242ac120002"): NotFound,
        ("retry", "01936f5e-7c1a-7a3e-8f00-0242ac120002"): NotFound,
        (*ADD, "--cron", "* * * * *"): InvalidInput,
        (*ADD, "--not-on-new-version"): InvalidInput,
    }
    for arguments, kind in refused.items():
        assert isinstance(type_in(*arguments).exception, kind), arguments
    type_in(*ADD)
    assert isinstance(type_in("change", "nightly", "--cron", "0 3 * * *", "--no-rule").exception, InvalidInput)
    assert isinstance(type_in(*ADD, "--grace-hours", "1").exception, Conflict)
