from fastapi.testclient import TestClient

from audit_service.domain.readings import BUILT_IN

METRIC = {"name": "log-odds", "reading": "log_odds", "title": "Ours", "unit": "nats"}


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


def test_a_reading_that_nobody_defined_is_refused(api: TestClient) -> None:
    answer = api.post("/v1/metrics", json=METRIC | {"reading": "vibes"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/body/reading"


def test_a_metric_that_is_not_there_is_404(api: TestClient) -> None:
    assert api.get("/v1/metrics/01936f5e-7c1a-7a3e-8f00-0242ac120002").status_code == 404
