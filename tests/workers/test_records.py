"""What other runs and people put on record about a run, gathered from the tables."""

from datetime import UTC, datetime

import numpy as np
import pytest
from fastapi.testclient import TestClient

from audit_service.audits import lifecycle
from audit_service.db.tables import RevalidationRow, RunRow
from audit_service.domain.cells import REFERENCE
from audit_service.domain.drift import Change
from audit_service.domain.lifecycle import RunState
from tests.revalidation.made import accept
from tests.service import Audit
from tests.workers.judged import judge_invented
from workers import records
from workers.cells import load
from workers.drift import drift_of
from workers.runtime import Runtime
from workers.tasks.advance import step


@pytest.fixture
def repeated(worker: Runtime, run_id: str, audit: Audit) -> tuple[str, str]:
    """A run with a gap, and its repetition with nearly none; both completed."""
    later: str = audit.run()["id"]
    step(worker, later)
    for run, gap in ((run_id, 0.35), (later, 0.02)):
        judge_invented(worker, run, gap=gap)
        with worker.database.writing() as session:
            lifecycle.move(session, run, RunState.COMPLETED, by="worker:test")
    with worker.database.writing() as session:
        runs = {one: session.get_one(RunRow, one) for one in (run_id, later)}
        row = RevalidationRow(run=runs[later], earlier_run=runs[run_id])
        session.add(row)
        session.flush()
        row.drift = drift_of(session, later, load(session, later))
    return run_id, later


def test_a_mitigation_is_told_with_before_after_and_what_became_of_the_reference_group(
    worker: Runtime, repeated: tuple[str, str], api: TestClient
) -> None:
    before, after = repeated
    measure = {"title": "Steering", "description": "Layer 1.", "fitted_on": "Other pairs."}
    side = {"name": "neutral.accuracy", "value": -0.01, "unit": "share", "method": "mean"}
    made = api.post(f"/v1/runs/{after}/mitigations", json=measure | {"side_effects": [side]})
    assert made.status_code == 201, made.text
    with worker.database.reading() as session:
        cells = load(session, after)
        [told] = records.mitigations(session, after, cells)
        old, new = (load(session, run).tables.decisions for run in (before, after))
        assert list(records.mitigations(session, before, cells)) == []
    assert (told.before.run_id, told.drift.output, told.person) == (before, Change.CHANGED, "user:admin@localhost")
    assert [result.key for result in told.side_effects] == ["neutral.accuracy"]
    assert told.complete(pair_set_digest=cells.pair_set.digest)
    gaps = {result.key for result in told.before.results}
    assert gaps == {"raw.race.black.gap_nats", "chat.race.black.gap_nats"}
    changes = {result.key: result.value for result in told.reference_changes}
    for form in ("raw", "chat"):
        rows = [i for i, pair in enumerate(old.pairs) if pair.form == form and pair.kind == "contrast"]
        moved = new.d[rows, REFERENCE].astype(np.float64) - old.d[rows, REFERENCE]
        assert changes[f"{form}.race.black.reference_change_nats"] == pytest.approx(moved.mean(), rel=1e-6)


def test_an_audit_that_another_took_the_place_of_is_superseded_and_not_overdue(
    worker: Runtime, repeated: tuple[str, str], api: TestClient
) -> None:
    _, after = repeated
    schedule = {"name": "yearly", "model": "tiny", "behavior": "loan-denial-race", "rule": {"cron": "0 3 1 1 *"}}
    assert api.post("/v1/schedules", json=schedule).status_code == 201
    accept(api, after, api.get(f"/v1/runs/{after}/verdict").json()["digest"])
    with worker.database.reading() as session:
        old, new = (records.currency(session, session.get_one(RunRow, run)) for run in repeated)
    assert old.superseded is not None
    assert (old.superseded.run_id, new.superseded) == (after, None)
    assert old.due == new.due == datetime(datetime.now(UTC).year + 1, 1, 1, 3, tzinfo=UTC)


def test_only_what_is_in_use_now_is_told(worker: Runtime, run_id: str, api: TestClient) -> None:
    judge_invented(worker, run_id)
    [version] = api.get("/v1/model-versions").json()["items"]
    for place in ("branch", "desk"):
        wanted = {"model_version_id": version["id"], "place": place}
        made = api.post("/v1/deployments", json=wanted).json()
    api.post(f"/v1/deployments/{made['id']}/end")
    with worker.database.reading() as session:
        known = records.currency(session, session.get_one(RunRow, run_id))
    assert [(one.place, one.digest) for one in known.deployments] == [("branch", version["digest"])]
    assert known.holds(at=datetime.now(UTC), model_digest=version["digest"])
    assert not known.holds(at=datetime.now(UTC), model_digest="f" * 64)
