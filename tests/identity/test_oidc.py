"""Signing in with a real OpenID provider, which runs as a process of its own."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from audit_service.embedded.processes import start, wait_until
from tests.folders import free_port
from tests.identity.made import add_user
from tests.service import bearer

USERS = [
    {"sub": "anna", "email": "anna@bank.example", "email_verified": True},
    {"sub": "impostor", "email": "anna@bank.example", "email_verified": True},
    {"sub": "unverified", "email": "anna@bank.example", "email_verified": False},
    {"sub": "stranger", "email": "stranger@elsewhere.example", "email_verified": True},
]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    claims = [part for user in USERS for part in ("--user-claims", json.dumps(user))]
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port), *claims]
    log: Path = tmp_path_factory.mktemp("oidc") / "log"
    child = start(command, log=log)
    issuer = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{issuer}/.well-known/openid-configuration").is_success
        except httpx.TransportError:
            return False

    assert wait_until(lambda: answers() or child.failed(), seconds=30), child.output()
    yield issuer
    child.stop()


@pytest.fixture
def browser(app: FastAPI, api: TestClient, provider: str) -> Iterator[TestClient]:
    """Somebody without a token, at a service that knows the provider."""
    add_user(api, "anna@bank.example", "analyst", password=None)
    app.state.settings = app.state.settings.model_copy(
        update={
            "oidc_issuer": provider,
            "oidc_client_id": "audit-service",
            "oidc_client_secret": SecretStr("a secret of the client"),
            "public_url": "http://testserver",
        }
    )
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as browser:
        yield browser


def at_the_provider(browser: TestClient, subject: str) -> str:
    """What the provider sends the browser back with, after the person has said who it is."""
    begun = browser.get("/v1/sessions/oidc")
    assert begun.status_code == 303
    assert "httponly" in begun.headers["Set-Cookie"].lower()
    sent_back = httpx.post(begun.headers["Location"], data={"sub": subject})
    assert sent_back.status_code in {302, 303}, sent_back.text
    where = urlsplit(sent_back.headers["Location"])
    return f"{where.path}?{where.query}"


def test_a_person_signs_in_with_the_provider(browser: TestClient) -> None:
    answer = browser.get(at_the_provider(browser, "anna"))
    assert answer.status_code == 200, answer.text
    me = browser.get("/v1/me", headers=bearer(answer.json()["token"])).json()
    assert (me["name"], me["role"]) == ("user:anna@bank.example", "analyst")


def test_the_request_to_the_provider_carries_pkce_state_and_nonce(browser: TestClient) -> None:
    query = parse_qs(urlsplit(browser.get("/v1/sessions/oidc").headers["Location"]).query)
    assert query["code_challenge_method"] == ["S256"]
    assert all(len(query[name][0]) >= 43 for name in ("state", "nonce", "code_challenge"))


@pytest.mark.parametrize(
    ("subject", "why"),
    [("stranger", "has no account here"), ("unverified", "no verified e-mail address")],
)
def test_whom_the_provider_does_not_vouch_for_does_not_sign_in(browser: TestClient, subject: str, why: str) -> None:
    answer = browser.get(at_the_provider(browser, subject))
    assert (answer.status_code, why in answer.json()["detail"]) == (401, True)


def test_a_later_owner_of_an_address_is_another_person(browser: TestClient) -> None:
    assert browser.get(at_the_provider(browser, "anna")).status_code == 200
    answer = browser.get(at_the_provider(browser, "impostor"))
    assert (answer.status_code, "another person" in answer.json()["detail"]) == (401, True)


def test_a_sign_in_is_finished_once_and_by_the_browser_that_began_it(browser: TestClient, app: FastAPI) -> None:
    back = at_the_provider(browser, "anna")
    with TestClient(app, follow_redirects=False) as other:
        assert "another browser" in other.get(back).json()["detail"]
    cookies = dict(browser.cookies)
    assert browser.get(back).status_code == 200
    browser.cookies.update(cookies)
    assert browser.get(back).status_code == 401


def test_a_code_that_the_provider_did_not_give_is_refused(browser: TestClient) -> None:
    state = parse_qs(urlsplit(at_the_provider(browser, "anna")).query)["state"][0]
    answer = browser.get("/v1/sessions/oidc/callback", params={"state": state, "code": "made up"})
    assert (answer.status_code, "does not vouch" in answer.json()["detail"]) == (401, True)


def test_each_sign_in_is_logged(browser: TestClient, api: TestClient) -> None:
    browser.get(at_the_provider(browser, "anna"))
    seen: list[dict[str, Any]] = api.get("/v1/events", params={"kind": "sign_in"}).json()["items"]
    assert [(event["data"]["how"], event["data"]["held"]) for event in seen] == [("oidc", True)]


def test_without_a_provider_the_settings_are_named(api: TestClient) -> None:
    answer = api.get("/v1/sessions/oidc")
    assert (answer.status_code, "AUDIT_OIDC_ISSUER" in answer.json()["remedy"]) == (422, True)


def test_a_provider_that_does_not_answer_is_unavailable(browser: TestClient, app: FastAPI) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    app.state.settings = app.state.settings.model_copy(update={"oidc_issuer": nowhere})
    assert browser.get("/v1/sessions/oidc").status_code == 503
