from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from fastapi.testclient import TestClient
from sqlalchemy import func, select

from audit_service import dispatch
from audit_service.border.idempotency import KEPT, forget
from audit_service.db.handles import Database
from audit_service.db.tables import IdempotencyRow, RunRow
from tests.identity.made import issue
from tests.service import Audit, bearer

KEY = {"Idempotency-Key": "my-key"}


def count(database: Database, table: type[IdempotencyRow] | type[RunRow]) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_request_sent_twice_is_done_once_and_answered_twice(
    api: TestClient, audit: Audit, database: Database
) -> None:
    body = {"plan_id": audit.plan()["id"]}
    first, second = (api.post("/v1/runs", json=body, headers=KEY) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert count(database, RunRow) == 1
    assert dispatch.waiting(dispatch.CPU) == 1


def test_a_key_is_forgotten_after_its_time_and_not_before(
    api: TestClient, audit: Audit, database: Database, operator: Database
) -> None:
    body = {"plan_id": audit.plan()["id"]}
    first = api.post("/v1/runs", json=body, headers=KEY).json()["id"]
    for later, runs in ((timedelta(0), {first}), (KEPT, None)):
        with operator.writing() as session:
            forget(session, datetime.now(UTC) + later)
        again = api.post("/v1/runs", json=body, headers=KEY).json()["id"]
        assert (again in runs) if runs else again != first


def test_without_a_key_each_request_makes_a_run(api: TestClient, audit: Audit, database: Database) -> None:
    body = {"plan_id": audit.plan()["id"]}
    assert len({api.post("/v1/runs", json=body).json()["id"] for _ in range(2)}) == 2


def test_twins_at_the_same_moment_make_one_run(api: TestClient, audit: Audit, database: Database) -> None:
    body = {"plan_id": audit.plan()["id"]}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: api.post("/v1/runs", json=body, headers=KEY), range(6)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert count(database, RunRow) == 1


def test_a_key_cannot_be_used_for_another_request(api: TestClient, audit: Audit, database: Database) -> None:
    first, other = audit.plan(), audit.plan(alpha=0.01)
    api.post("/v1/runs", json={"plan_id": first["id"]}, headers=KEY)
    answer = api.post("/v1/runs", json={"plan_id": other["id"]}, headers=KEY)
    assert answer.status_code == 409
    assert "new key" in answer.json()["remedy"]
    assert count(database, RunRow) == 1


def test_the_same_key_on_another_path_is_another_request(api: TestClient, audit: Audit) -> None:
    plan = audit.plan()
    api.post("/v1/runs", json={"plan_id": plan["id"]}, headers=KEY)
    metric = {"name": "x", "formula": "d", "title": "X", "unit": "nats"}
    assert api.post("/v1/metrics", json=metric, headers=KEY).status_code == 201


def test_another_ones_key_is_another_request(api: TestClient, audit: Audit) -> None:
    body = {"plan_id": audit.plan()["id"]}
    assert api.post("/v1/runs", json=body, headers=KEY).status_code == 201
    theirs = KEY | bearer(issue(api, role="analyst")["token"])
    assert api.post("/v1/runs", json=body, headers=theirs).status_code == 409


def test_a_refused_request_does_not_use_its_key_up(api: TestClient, audit: Audit, database: Database) -> None:
    missing = {"plan_id": "01936f5e-7c1a-7a3e-8f00-0242ac120002"}
    assert api.post("/v1/runs", json=missing, headers=KEY).status_code == 404
    assert count(database, IdempotencyRow) == 0
    assert api.post("/v1/runs", json={"plan_id": audit.plan()["id"]}, headers=KEY).status_code == 201


def test_an_answer_that_found_something_is_repeated_as_it_was(api: TestClient) -> None:
    metric = {"name": "x", "formula": "d", "title": "X", "unit": "nats"}
    api.post("/v1/metrics", json=metric)
    assert [api.post("/v1/metrics", json=metric, headers=KEY).status_code for _ in range(2)] == [200, 200]


def test_a_key_of_odd_characters_is_refused(api: TestClient) -> None:
    assert api.post("/v1/metrics", json={}, headers={"Idempotency-Key": "a b"}).status_code == 422
