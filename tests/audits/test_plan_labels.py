from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from tests.service import Audit


def plan_with(audit: Audit, api: TestClient, labels: dict[str, list[str]]) -> Response:
    behavior = audit.behavior(labels=labels)["id"]
    pair_set = audit.create("pair-sets", {"behavior_version_id": behavior})["id"]
    body: dict[str, Any] = {
        "model_version_id": audit.model()["id"],
        "behavior_version_id": behavior,
        "pair_set_id": pair_set,
        "judging": {"delta_nats": 0.1},
    }
    return api.post("/v1/plans", json=body)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"favorable": ["Approve the loan"], "unfavorable": ["No"]}, "'Approve the loan' is unknown"),
        ({"favorable": ["Yes", "yes"], "unfavorable": ["yes"]}, "'yes' stands on both sides"),
    ],
)
def test_labels_that_the_model_cannot_answer_with_are_named_and_no_plan_is_kept(
    audit: Audit, api: TestClient, labels: dict[str, list[str]], said: str
) -> None:
    answer = plan_with(audit, api, labels)
    assert answer.status_code == 422
    assert said in answer.text
    assert api.get("/v1/plans").json()["items"] == []
