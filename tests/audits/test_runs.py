import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from audit_service import dispatch
from audit_service.audits import lifecycle
from audit_service.db.handles import Database
from audit_service.db.tables import EventRow, RunRow, ShardRow
from audit_service.domain.lifecycle import EventKind, RunState, ShardState
from audit_service.domain.plan import Direction, ShardKind
from audit_service.settings import get_settings
from tests.folders import free_port
from tests.service import Audit


def move(database: Database, run_id: str, *states: RunState) -> None:
    with database.writing() as session:
        for state in states:
            lifecycle.move(session, run_id, state, by="test")


def runs(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(RunRow)) or 0


def stop_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on nobody answers where the broker should be."""
    monkeypatch.setenv("AUDIT_BROKER_URL", f"redis://127.0.0.1:{free_port()}/0")
    get_settings.cache_clear()
    dispatch.celery.cache_clear()


def test_a_started_run_is_queued_and_a_worker_is_told(api: TestClient, audit: Audit) -> None:
    run = audit.run()
    assert (run["state"], run["started_at"]) == ("queued", None)
    assert dispatch.waiting(dispatch.CPU) == 1
    assert api.get("/v1/runs").json()["items"] == [run]
    assert api.get("/v1/runs", params={"state": "paused"}).json()["items"] == []


def test_a_run_shows_how_far_it_is(api: TestClient, audit: Audit, database: Database) -> None:
    run = audit.run()
    fresh = api.get(f"/v1/runs/{run['id']}").json()["progress"]
    assert fresh == {"done": 0, "total": 0, "shards_done": 0, "shards": 0, "running_effect": None, "seconds_left": None}
    with database.writing() as session:
        shard = {"run_id": run["id"], "form": "raw", "pair_ids": ["a"], "total": 100}
        session.add_all(
            [
                ShardRow(
                    **shard, key="a" * 32, ordinal=0, kind=ShardKind.DECISIONS, state=ShardState.DONE, done=100,
                    started_at=func.now() - func.make_interval(0, 0, 0, 0, 0, 0, 10), ended_at=func.now(),
                ),
                ShardRow(
                    **shard, key="b" * 32, ordinal=1, kind=ShardKind.EFFECTS, direction=Direction.NOISE,
                    state=ShardState.RUNNING, done=50, running_effect=0.25,
                    started_at=func.now() - func.make_interval(0, 0, 0, 0, 0, 0, 5), heartbeat_at=func.now(),
                ),
            ]
        )  # fmt: skip
    shown = api.get(f"/v1/runs/{run['id']}").json()
    # 150 passes took 15 seconds of worker time; the one worker that is busy needs 5 more.
    assert shown["progress"] == {
        "done": 150,
        "total": 200,
        "shards_done": 1,
        "shards": 2,
        "running_effect": 0.25,
        "seconds_left": 5.0,
    }
    assert shown["plan_digest"] == audit.plan()["digest"]
    shards = api.get(f"/v1/runs/{run['id']}/shards").json()["items"]
    assert [(shard["key"][0], shard["state"]) for shard in shards] == [("a", "done"), ("b", "running")]


def test_pause_and_resume_go_back_to_the_queue(api: TestClient, audit: Audit) -> None:
    run = audit.run()
    assert api.post(f"/v1/runs/{run['id']}/pause").json()["state"] == "paused"
    assert api.post(f"/v1/runs/{run['id']}/resume").json()["state"] == "queued"
    assert dispatch.waiting(dispatch.CPU) == 2


def test_a_failed_run_can_be_resumed(api: TestClient, audit: Audit, database: Database) -> None:
    run = audit.run()
    with database.writing() as session:
        lifecycle.move(session, run["id"], RunState.FAILED, by="test", reason="disk full")
    failed = api.get(f"/v1/runs/{run['id']}").json()
    assert (failed["reason"], failed["ended_at"] is None) == ("disk full", False)
    resumed = api.post(f"/v1/runs/{run['id']}/resume").json()
    assert (resumed["state"], resumed["reason"], resumed["ended_at"]) == ("queued", None, None)


def test_a_cancelled_run_has_ended_for_good(api: TestClient, audit: Audit) -> None:
    run = audit.run()
    assert api.post(f"/v1/runs/{run['id']}/cancel").json()["ended_at"] is not None
    for act in ("cancel", "pause", "resume"):
        answer = api.post(f"/v1/runs/{run['id']}/{act}")
        assert answer.status_code == 409
        assert "From cancelled" in answer.json()["remedy"]


def test_every_move_is_written_down_with_who_and_why(api: TestClient, audit: Audit, database: Database) -> None:
    run = audit.run()
    api.post(f"/v1/runs/{run['id']}/pause")
    move(database, run["id"], RunState.CANCELLED)
    with database.reading() as session:
        query = select(EventRow).where(EventRow.kind == EventKind.STATE)
        events = session.scalars(query.order_by(EventRow.seq)).all()
    assert [(event.actor, event.data["from"], event.data["to"]) for event in events] == [
        ("user:admin@localhost", None, "queued"),
        ("user:admin@localhost", "queued", "paused"),
        ("test", "paused", "cancelled"),
    ]


def test_a_run_over_a_changed_model_is_refused(
    api: TestClient, audit: Audit, database: Database, model_folder: Path
) -> None:
    plan = audit.plan()
    (model_folder / "tokenizer.json").write_text(json.dumps({"other": 1}))
    answer = api.post("/v1/runs", json={"plan_id": plan["id"]})
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:audit-service:model-changed"
    assert runs(database) == 0


def test_without_a_broker_no_run_is_made(
    api: TestClient, audit: Audit, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = audit.plan()
    stop_broker(monkeypatch)
    answer = api.post("/v1/runs", json={"plan_id": plan["id"]})
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:audit-service:broker-down"
    assert answer.headers["Retry-After"]
    assert runs(database) == 0


def test_without_a_broker_a_paused_run_stays_paused(
    api: TestClient, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = audit.run()
    api.post(f"/v1/runs/{run['id']}/pause")
    stop_broker(monkeypatch)
    assert api.post(f"/v1/runs/{run['id']}/resume").status_code == 503
    assert api.get(f"/v1/runs/{run['id']}").json()["state"] == "paused"


def test_what_is_not_there_is_404(api: TestClient) -> None:
    missing = "01936f5e-7c1a-7a3e-8f00-0242ac120002"
    assert api.post("/v1/runs", json={"plan_id": missing}).status_code == 404
    assert api.get(f"/v1/runs/{missing}").status_code == 404
    assert api.get(f"/v1/runs/{missing}/shards").status_code == 404
    for act in ("cancel", "pause", "resume"):
        assert api.post(f"/v1/runs/{missing}/{act}").status_code == 404
