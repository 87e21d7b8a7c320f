import pytest
from fastapi.testclient import TestClient

from audit_service.domain.readings import BUILT_IN

METRIC = {"name": "log-odds", "formula": "log(p / (1 - p))", "title": "Ours", "unit": "nats"}


def test_the_built_in_metrics_are_listed(api: TestClient) -> None:
    listed = api.get("/v1/metrics").json()["items"]
    assert {metric["name"]: metric["version"] for metric in listed} == {metric.name: 1 for metric in BUILT_IN}


def test_another_metric_of_a_name_is_its_next_version(api: TestClient) -> None:
    first = api.post("/v1/metrics", json=METRIC)
    assert first.status_code == 201
    assert first.json()["version"] == 2
    again = api.post("/v1/metrics", json=METRIC)
    assert again.status_code == 200
    assert again.json() == first.json() == api.get(f"/v1/metrics/{first.json()['id']}").json()


@pytest.mark.parametrize(
    "formula", ["__import__('os').system('true')", "vibes", "d.__class__", "9**9**9 + d", "d" + " + d" * 400, ""]
)
def test_a_formula_that_is_not_allowed_is_refused_with_what_is(api: TestClient, formula: str) -> None:
    answer = api.post("/v1/metrics", json=METRIC | {"formula": formula})
    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_a_metric_may_bring_its_own_tolerance_with_its_source(api: TestClient) -> None:
    own = {"gap": 5.0, "delta": 2.0, "source": "credit policy 7"}
    made = api.post("/v1/metrics", json=METRIC | {"name": "ours", "tolerance": own})
    assert made.json()["content"]["tolerance"] == own
    without = api.post("/v1/metrics", json=METRIC | {"name": "ours", "tolerance": {"gap": 5.0, "delta": 2.0}})
    assert without.status_code == 422


def test_a_metric_that_is_not_there_is_404(api: TestClient) -> None:
    assert api.get("/v1/metrics/01936f5e-7c1a-7a3e-8f00-0242ac120002").status_code == 404
