import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from audit_service.audits import lifecycle
from audit_service.db.handles import Database, WriteSession
from audit_service.domain.lifecycle import RunState
from audit_service.domain.notifications import Topic
from audit_service.notifications import service
from audit_service.notifications.service import ATTEMPTS, delay, deliver_due
from audit_service.settings import Settings, get_settings
from tests.receivers import Hook, hook_server, mail_server
from tests.revalidation.made import complete
from tests.service import Audit

START = datetime(2126, 1, 1, tzinfo=UTC)
"""Later than any message is written."""


@pytest.fixture
def _networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_WEBHOOK_NETWORKS", '["127.0.0.0/8"]')
    get_settings.cache_clear()


@pytest.fixture
def hook() -> Iterator[Hook]:
    with hook_server() as hook:
        yield hook


@pytest.fixture
def target(api: TestClient, hook: Hook, _networks: None) -> dict[str, Any]:
    return add(api, {"kind": "webhook", "address": hook.url})


@pytest.fixture
def deliver(app: FastAPI) -> Callable[..., int]:
    """Deliver what is due so long after START."""

    def delivered(after: timedelta = timedelta(), **settings: Any) -> int:
        known = Settings(webhook_networks=(ip_network("127.0.0.0/8"),), **settings)
        return deliver_due(app.state.database, known, now=lambda: START + after)

    return delivered


def add(api: TestClient, wanted: dict[str, Any]) -> dict[str, Any]:
    answer = api.post("/v1/notification-targets", json=wanted)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def publish(database: Database, subject: str = "s", **data: Any) -> None:
    with database.writing() as session:
        service.publish(session, Topic.RUN_COMPLETED, subject=subject, data=data)


def messages(api: TestClient, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get("/v1/notifications", params=query).json()["items"]
    return found


def logged(api: TestClient) -> list[dict[str, Any]]:
    return [entry["data"] for entry in api.get("/v1/events?kind=notification").json()["items"]]


def test_the_secret_is_shown_once(api: TestClient, target: dict[str, Any]) -> None:
    assert target["secret"].startswith("whsec_")
    assert "secret" not in api.get("/v1/notification-targets").json()["items"][0]


@pytest.mark.usefixtures("target")
def test_a_completed_run_is_told_with_its_verdict(
    api: TestClient, audit: Audit, database: Database, hook: Hook, deliver: Callable[..., int]
) -> None:
    run = audit.run()["id"]
    complete(database, run)
    assert deliver() == 1
    [(headers, body)] = hook.posted
    said = json.loads(body)
    assert (said["id"], said["type"]) == (headers["webhook-id"], "run.completed")
    assert {name: said["data"][name] for name in ("run", "state", "verdict", "model", "version", "behavior")} == {
        "run": run, "state": "completed", "verdict": "pass", "model": "tiny", "version": "1",
        "behavior": "loan-denial-race",
    }  # fmt: skip
    [message] = messages(api, state="delivered")
    assert (message["id"], message["attempts"], message["error"]) == (said["id"], 1, None)
    assert deliver() == 0


def test_what_is_rolled_back_is_not_told(api: TestClient, audit: Audit, database: Database, target: object) -> None:
    run = audit.run()["id"]
    with pytest.raises(ZeroDivisionError), database.writing() as session:
        _fail(session, run)
    assert messages(api) == []


def _fail(session: WriteSession, run: str) -> None:
    lifecycle.move(session, run, RunState.FAILED, by="test", reason="x")
    raise ZeroDivisionError


@pytest.mark.usefixtures("_networks")
def test_only_topics_that_were_asked_for_are_told(api: TestClient, database: Database, hook: Hook) -> None:
    add(api, {"kind": "webhook", "address": hook.url, "topics": ["schedule.overdue"]})
    publish(database)
    assert messages(api) == []


def test_a_refusal_is_tried_again_later_and_later_with_the_same_id(
    api: TestClient, database: Database, target: object, hook: Hook, deliver: Callable[..., int]
) -> None:
    hook.answers = [500] * 3
    publish(database)
    passed = timedelta()
    for attempt in range(1, 4):
        assert deliver(passed) == 1
        assert deliver(passed + delay(attempt) - timedelta(seconds=1)) == 0
        [message] = messages(api, state="pending")
        assert (message["attempts"], message["error"]) == (attempt, "The receiver answered 500.")
        passed += delay(attempt)
    assert deliver(passed) == 1
    assert messages(api, state="delivered")[0]["attempts"] == 4
    assert len({headers["webhook-id"] for headers, _ in hook.posted}) == 1
    assert len({headers["webhook-timestamp"] for headers, _ in hook.posted}) == 4


def test_what_nobody_takes_is_given_up_and_can_be_sent_again(
    api: TestClient, database: Database, target: object, hook: Hook, deliver: Callable[..., int]
) -> None:
    hook.answers = [503] * ATTEMPTS
    publish(database)
    for day in range(ATTEMPTS + 2):
        deliver(timedelta(days=day))
    assert len(hook.posted) == ATTEMPTS
    [dead] = messages(api, state="dead")
    again = api.post(f"/v1/notifications/{dead['id']}/resend")
    assert (again.status_code, again.json()["state"]) == (200, "pending")
    assert logged(api)[-1] == {"id": dead["id"], "what": "sent again"}
    assert deliver(timedelta(days=99)) == 1
    assert messages(api)[0]["state"] == "delivered"
    assert api.post(f"/v1/notifications/{dead['id']}/resend").status_code == 409


def test_a_removed_target_is_told_nothing_more(
    api: TestClient, database: Database, target: dict[str, Any], hook: Hook, deliver: Callable[..., int]
) -> None:
    publish(database)
    for _ in range(2):
        api.post(f"/v1/notification-targets/{target['id']}/remove")
    assert logged(api) == [{"id": target["id"], "what": what} for what in ("target added", "target removed")]
    publish(database)
    deliver()
    assert hook.posted == []
    [message] = messages(api)
    assert (message["state"], message["error"]) == ("dead", "The target was removed.")


def test_e_mail_says_the_same_in_words(
    api: TestClient, database: Database, deliver: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with mail_server() as (address, box):
        monkeypatch.setenv("AUDIT_SMTP_URL", f"smtp://{address}")
        get_settings.cache_clear()
        add(api, {"kind": "email", "address": "risk@bank.example"})
        publish(database, "Audit completed\nBcc: x@y.z", model="tiny", changes=["one", "two"], reason=None)
        assert deliver(smtp_url=f"smtp://{address}", smtp_from="audit@bank.example") == 1
    [letter] = box.letters
    assert (letter["To"], letter["From"], letter["Bcc"]) == ("risk@bank.example", "audit@bank.example", None)
    assert letter["Subject"] == "Audit completed Bcc: x@y.z"
    text = str(letter.get_payload())
    assert "model: tiny\nchanges: \n  - one\n  - two\n" in text.replace("\r\n", "\n")
    assert "reason" not in text


@pytest.mark.parametrize(
    ("wanted", "status", "said"),
    [
        ({"kind": "webhook", "address": "http://127.0.0.1:1/"}, 422, "no public address"),
        ({"kind": "webhook", "address": "https://[::ffff:169.254.169.254]/"}, 422, "no public address"),
        ({"kind": "email", "address": "risk@bank.example"}, 409, "AUDIT_SMTP_URL"),
        ({"kind": "webhook", "address": "https://example.org/ x"}, 422, "no spaces"),
        ({"kind": "webhook", "address": "https://8.8.8.8/", "topics": []}, 422, "topics"),
    ],
)
def test_a_target_that_could_not_be_told_is_refused(
    api: TestClient, wanted: dict[str, Any], status: int, said: str
) -> None:
    answer = api.post("/v1/notification-targets", json=wanted)
    assert answer.status_code == status
    assert said in answer.text


@pytest.mark.parametrize("address", ["risk", "@b.c", "a@", "Risk <a@b.c>", "a@b.c,d@e.f"])
def test_what_is_no_e_mail_address_is_refused(api: TestClient, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("AUDIT_SMTP_URL", "smtp://mail.example")
    get_settings.cache_clear()
    answer = api.post("/v1/notification-targets", json={"kind": "email", "address": address})
    assert answer.status_code == 422


def test_a_test_message_can_be_sent(
    api: TestClient, target: dict[str, Any], hook: Hook, deliver: Callable[..., int]
) -> None:
    answer = api.post(f"/v1/notification-targets/{target['id']}/test")
    assert answer.status_code == 201
    deliver()
    assert json.loads(hook.posted[0][1])["type"] == "test"
