from typing import Any

import pytest
from fastapi.testclient import TestClient

from audit_service.domain.readings import BUILT_IN


def metric(api: TestClient, number: int) -> str:
    body = {"name": f"m{number}", "formula": "d", "title": "M", "unit": "nats"}
    made: str = api.post("/v1/metrics", json=body).json()["id"]
    return made


def ids(page: dict[str, Any]) -> list[str]:
    return [item["id"] for item in page["items"]]


def test_pages_follow_each_other_newest_first_without_gap_or_repetition(api: TestClient) -> None:
    made = [metric(api, number) for number in range(5)]
    first = api.get("/v1/metrics", params={"limit": 2}).json()
    second = api.get("/v1/metrics", params={"limit": 2, "cursor": first["next"]}).json()
    assert ids(first) + ids(second) == made[:0:-1]


def test_the_oldest_come_first_if_that_is_asked_for(api: TestClient) -> None:
    built_in = len(BUILT_IN)
    made = [metric(api, number) for number in range(3)]
    first = api.get("/v1/metrics", params={"limit": built_in + 1, "order": "oldest"}).json()
    second = api.get("/v1/metrics", params={"limit": 4, "order": "oldest", "cursor": first["next"]}).json()
    assert ids(first)[built_in:] + ids(second) == made


def test_rows_that_arrive_meanwhile_shift_nothing(api: TestClient) -> None:
    made = [metric(api, number) for number in range(4)]
    first = api.get("/v1/metrics", params={"limit": 2}).json()
    metric(api, 9)
    second = api.get("/v1/metrics", params={"limit": 2, "cursor": first["next"]}).json()
    assert ids(second) == [made[1], made[0]]


def test_the_last_page_says_that_it_is_the_last(api: TestClient) -> None:
    full = api.get("/v1/metrics", params={"limit": len(BUILT_IN)}).json()
    assert (len(full["items"]), full["next"]) == (len(BUILT_IN), None)
    assert api.get("/v1/models").json() == {"items": [], "next": None}


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 201}, {"cursor": "x"}, {"cursor": ""}])
def test_a_page_that_cannot_be_is_refused(api: TestClient, query: dict[str, Any]) -> None:
    assert api.get("/v1/metrics", params=query).status_code == 422
