"""What a person leaves behind ends with the person's access."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from audit_service.db.handles import Database
from audit_service.identity import bootstrap, operating
from tests.identity.made import add_user, issue, sign_in
from tests.service import bearer


@pytest.fixture
def eva(api: TestClient) -> dict[str, str]:
    """Another administrator's sign-in."""
    add_user(api, "eva@bank.example", "admin")
    return bearer(sign_in(api, "eva@bank.example").json()["token"])


def made_by(api: TestClient, whom: dict[str, str], **wanted: Any) -> dict[str, Any]:
    answer = api.post("/v1/tokens", json={"name": "build", **wanted}, headers=whom)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def change(api: TestClient, **wanted: Any) -> None:
    [user] = [one for one in api.get("/v1/users").json()["items"] if one["email"] == "eva@bank.example"]
    answer = api.patch(f"/v1/users/{user['id']}", json=wanted, headers={"If-Match": "*"})
    assert answer.status_code == 200, answer.text


def status(api: TestClient, token: dict[str, Any]) -> int:
    return api.get("/v1/me", headers=bearer(token["token"])).status_code


def test_a_service_has_no_access_any_more_when_its_maker_has_none(api: TestClient, eva: dict[str, str]) -> None:
    service, own = made_by(api, eva, role="admin"), made_by(api, eva)
    child = made_by(api, bearer(service["token"]), role="auditor")  # made through a token, and still by eva
    others = issue(api, role="analyst")
    change(api, active=False)
    assert [status(api, one) for one in (service, own, child, others)] == [401, 401, 401, 200]
    listed = {one["id"]: one for one in api.get("/v1/tokens").json()["items"]}
    assert [listed[one["id"]]["revoked_at"] is not None for one in (service, child, others)] == [True, True, False]
    ended = [event["data"] for event in api.get("/v1/events", params={"kind": "token"}).json()["items"]]
    revoked = [(one["id"], one["why"]) for one in ended if one["what"] == "revoked"]
    assert sorted(revoked) == sorted((one["id"], "its maker may do less now") for one in (service, child))
    change(api, active=True)  # what was revoked stays so
    assert [status(api, one) for one in (service, child)] == [401, 401]
    assert api.get("/v1/events/check").json()["broken_at"] is None


def test_a_lower_role_ends_the_tokens_that_go_beyond_it_and_no_others(api: TestClient, eva: dict[str, str]) -> None:
    wide, narrow = made_by(api, eva, role="admin"), made_by(api, eva, role="admin", scopes=["read"])
    change(api, role="analyst")
    assert [status(api, one) for one in (wide, narrow)] == [401, 403]  # `read` has no /me
    assert api.get("/v1/models", headers=bearer(narrow["token"])).status_code == 200


def test_the_operator_ends_them_too_and_what_the_operator_made_stays(
    api: TestClient, eva: dict[str, str], operator: Database
) -> None:
    service = made_by(api, eva, role="analyst")
    operating.set_access(operator, "eva@bank.example", active=False)
    assert status(api, service) == 401
    operating.set_access(operator, bootstrap.FIRST_EMAIL, active=True)
    assert api.get("/v1/me").status_code == 200


def test_a_token_that_is_made_while_its_maker_leaves_is_worth_nothing(
    api: TestClient, eva: dict[str, str], database: Database
) -> None:
    service = made_by(api, eva, role="analyst")
    with database.writing() as session:  # as if it had been made just after the others were revoked
        session.connection().exec_driver_sql("UPDATE memberships SET active = false WHERE role = 'admin' AND user_id = "
                                             "(SELECT maker_id FROM tokens WHERE role = 'analyst')")  # fmt: skip
    answer = api.get("/v1/me", headers=bearer(service["token"]))
    assert (answer.status_code, answer.json()["detail"]) == (401, "The token's maker has no access any more.")


def test_two_administrators_never_take_each_others_access_at_once(api: TestClient, eva: dict[str, str]) -> None:
    people = {one["email"]: one["id"] for one in api.get("/v1/users").json()["items"]}
    wanted = [(bootstrap.FIRST_EMAIL, eva), ("eva@bank.example", {})]

    def take(email: str, by: dict[str, str]) -> int:
        path, any_state = f"/v1/users/{people[email]}", {"If-Match": "*"}
        return api.patch(path, json={"active": False}, headers=by | any_state).status_code

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda one: take(*one), wanted))
    assert sorted(answers) in ([200, 401], [200, 403])
