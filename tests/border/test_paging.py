import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from audit_service.db.handles import Database
from audit_service.db.tables import TokenRow
from audit_service.domain.readings import BUILT_IN
from tests.identity.made import add_user, issue
from tests.service import Audit

FOREIGN = "The cursor is none of this list in this order with these filters."


def metric(api: TestClient, number: int) -> str:
    body = {"name": f"m{number}", "formula": "d", "title": "M", "unit": "nats"}
    made: str = api.post("/v1/metrics", json=body).json()["id"]
    return made


def ids(page: dict[str, Any]) -> list[str]:
    return [item["id"] for item in page["items"]]


def pages(api: TestClient, path: str, **query: Any) -> list[dict[str, Any]]:
    """All items of a list that is read by pages of two."""
    items, cursor = [], None
    while True:
        page = api.get(path, params=query | {"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        items += page["items"]
        if (cursor := page["next"]) is None:
            return items


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


def test_a_list_is_ordered_by_a_column_and_equal_ones_by_age_in_both_directions(api: TestClient) -> None:
    for email, role in (("b", "analyst"), ("d", "auditor"), ("a", "analyst"), ("c", "auditor"), ("e", "analyst")):
        add_user(api, f"{email}@bank.example", role, password=None)
    people = api.get("/v1/users", params={"order": "oldest"}).json()["items"]
    for order in ("role", "email", "name"):
        expected = sorted(people, key=lambda one: one[order])  # sorted() keeps the order of age among equals
        assert pages(api, "/v1/users", order=order) == expected
        assert pages(api, "/v1/users", order=f"-{order}") == expected[::-1]


def test_numbers_moments_and_words_of_other_tables_are_orders_too(
    api: TestClient, audit: Audit, database: Database
) -> None:
    tokens = [issue(api, role="auditor", days=days)["id"] for days in (9, 3, 7)]
    with database.writing() as session:
        for row in session.query(TokenRow).where(TokenRow.id.in_(tokens)):  # moments that the clock cannot tell apart
            row.expires_at = datetime(2030, 1, 1, tzinfo=UTC) + timedelta(microseconds=len(row.id))
    assert [one["id"] for one in pages(api, "/v1/tokens", order="expires") if one["id"] in tokens] == tokens
    audit.run()
    for order in ("model", "-version"):
        assert len(pages(api, "/v1/model-versions", order=order)) == 1
    assert len(pages(api, "/v1/pair-sets", order="-count")) == 1
    assert len(pages(api, "/v1/runs", order="state")) == 1


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


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/metrics", {"order": "oldest"}),
        ("/v1/metrics", {"order": "-name"}),
        ("/v1/metrics", {"name": "m1"}),
        ("/v1/models", {}),
        ("/v1/events", {}),
    ],
)
def test_a_cursor_holds_for_the_list_order_and_filters_that_it_came_from(
    api: TestClient, path: str, query: dict[str, Any]
) -> None:
    cursor = api.get("/v1/metrics", params={"limit": 1}).json()["next"]
    assert api.get("/v1/metrics", params={"limit": 50, "cursor": cursor, "order": "newest"}).status_code == 200
    answer = api.get(path, params=query | {"cursor": cursor})
    assert (answer.status_code, answer.json()["detail"]) == (422, FOREIGN)


def test_a_cursor_that_somebody_made_is_refused(api: TestClient) -> None:
    given = api.get("/v1/metrics", params={"limit": 1, "order": "name"}).json()["next"]
    place = json.loads(base64.urlsafe_b64decode(given + "=" * (-len(given) % 4)))
    for after in (
        [],
        ["x"],
        [1, 2],
        ["x", "y"],
        ["x", 1],
        ["\ud800", place["after"][1]],
        ["\x00", place["after"][1]],
        [2**70, place["after"][1]],
        [*place["after"], "x"],
    ):
        forged = base64.urlsafe_b64encode(json.dumps(place | {"after": after}).encode()).decode().rstrip("=")
        answer = api.get("/v1/metrics", params={"limit": 1, "order": "name", "cursor": forged})
        assert (answer.status_code, answer.json()["detail"]) == (422, FOREIGN), after


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 201}, {"cursor": "x"}, {"cursor": ""}, {"cursor": "Ä"}, {"order": "digest"}]
)
def test_a_page_that_cannot_be_is_refused(api: TestClient, query: dict[str, Any]) -> None:
    assert api.get("/v1/metrics", params=query).status_code == 422
