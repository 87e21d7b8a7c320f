"""People and tokens of each role, made by the API itself."""

from typing import Any

from fastapi.testclient import TestClient

PASSWORD = "a long enough secret"


def add_user(api: TestClient, email: str, role: str, *, password: str | None = PASSWORD) -> dict[str, Any]:
    answer = api.post("/v1/users", json={"email": email, "name": email, "role": role, "password": password})
    assert answer.status_code in {200, 201}, answer.text
    made: dict[str, Any] = answer.json()
    return made


def issue(api: TestClient, **wanted: Any) -> dict[str, Any]:
    answer = api.post("/v1/tokens", json={"name": "build", **wanted})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def sign_in(api: TestClient, email: str, password: str = PASSWORD, **more: Any) -> Any:
    return api.post("/v1/sessions", json={"email": email, "password": password, **more})
