"""What is read of a body, and when."""

import re
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.types import Message

from audit_service.border.limits import CALL, FILES, KIB, MIB, OPEN_CALL
from audit_service.domain.roles import Role
from audit_service.identity.permissions import NEEDS
from tests.identity.made import issue
from tests.identity.test_permissions import calls
from tests.test_problems import is_problem


def sent(app: FastAPI, method: str, path: str, *, token: str | None) -> tuple[int, int]:
    """(status, bytes that were read) of a call with a body without an end."""
    read, status = 0, 0

    async def receive() -> Message:
        nonlocal read
        read += 64 * KIB
        return {"type": "http.request", "body": b" " * 64 * KIB, "more_body": True}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    headers = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
    headers += [(b"authorization", f"Bearer {token}".encode())] if token else []
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"name=x&format=json",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "app": app,
    }
    anyio.run(app, scope, receive, send)
    return status, read


def filled(path: str) -> str:
    return re.sub(r"\{\w+\}", "01936f5e-7c1a-7a3e-8f00-0242ac120002", path)


def test_nothing_is_read_of_a_body_before_its_sender_is_known(app: FastAPI) -> None:
    for method, path, name in calls(app):
        if name in NEEDS:
            assert sent(app, method, filled(path), token=None) == (401, 0), name


def test_nothing_is_read_of_a_body_whose_sender_may_not_make_the_call(app: FastAPI, api: TestClient) -> None:
    token = issue(api, role=Role.AUDITOR)["token"]
    writing = [(method, filled(path)) for method, path, name in calls(app) if NEEDS.get(name) == "register"]
    assert len(writing) > 4
    for method, path in writing:
        assert sent(app, method, path, token=token) == (403, 0), path


def test_a_body_without_an_end_is_read_up_to_the_limit_of_its_call(app: FastAPI, token: str) -> None:
    assert sent(app, "POST", "/v1/metrics", token=token) == (413, CALL + 64 * KIB)
    assert sent(app, "POST", "/v1/sessions", token=None) == (413, OPEN_CALL + 64 * KIB)


def pieces(size: int) -> Iterator[bytes]:
    yield from (b" " * MIB for _ in range(size // MIB + 1))


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_a_problem(api: TestClient, announced: bool) -> None:
    content: Any = b" " * (CALL + 1) if announced else pieces(CALL)
    answer = api.post("/v1/metrics", content=content, headers={"Content-Type": "application/json"})
    is_problem(answer, 413)
    assert str(CALL) in answer.json()["detail"]


def test_only_calls_that_take_a_file_have_a_larger_limit(app: FastAPI) -> None:
    names = {name for _, _, name in calls(app)}
    assert set(FILES) <= names & set(NEEDS)
