"""The report task keeps reports and bundle together, once for the same records, and never changes what it kept."""

import hashlib
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from audit_service.audits import lifecycle
from audit_service.db.tables import BundleRow, PairSetRow, RunRow, ShardRow, TraceRow, VerdictRow
from audit_service.domain.lifecycle import RunState, ShardState
from audit_service.domain.manifest import digest
from audit_service.pairsets import repository as pairsets
from audit_service.reports import repository
from tests.workers.rendering.audits import MEASURED, traced
from tests.workers.rendering.keys import signing_key
from workers.rendering.verifying import open_bundle, verify
from workers.runtime import Runtime
from workers.tasks.report import issue


@pytest.fixture
def judged(worker: Runtime, run_id: str, model_folder: Path) -> str:
    """A run with invented cells and their real verdict, about to be reported; its toy model was changed meanwhile."""
    (model_folder / "config.json").write_text("{}")
    with worker.database.writing() as session:
        run = session.get_one(RunRow, run_id)
        pair_set = pairsets.load(session, session.get_one(PairSetRow, run.plan.pair_set_id))
        judgement, traces = traced(run.plan.content, pair_set)
        session.execute(update(ShardRow).where(ShardRow.run_id == run_id).values(state=ShardState.DONE))
        session.add_all(
            TraceRow(run_id=run_id, shard_key=shard.key, payload=trace.payload, digest=trace.digest, measured=MEASURED)
            for shard, trace in traces.items()
        )
        session.add(
            VerdictRow(run_id=run_id, value=judgement.verdict.value, judgement=judgement, digest=digest(judgement))
        )
        for state in (RunState.JUDGING, RunState.REPORTING):
            lifecycle.move(session, run_id, state, by="worker:test")
    return run_id


def kept(worker: Runtime, run_id: str) -> list[tuple[BundleRow, bytes]]:
    """The run's bundles with their bytes, the youngest first."""
    with worker.database.reading() as session:
        rows = list(session.scalars(repository.bundles(run_id)))
    return [(row, b"".join(repository.stream(worker.database, row))) for row in rows]


def test_an_edition_is_made_for_new_records_only_and_the_ones_before_stay(
    worker: Runtime, judged: str, api: TestClient
) -> None:
    issue(worker, judged, None)
    [(row, first)] = kept(worker, judged)
    assert (row.size, row.digest) == (len(first), hashlib.sha256(first).hexdigest())
    assert [check.what for check in verify(first) if not check.held] == []
    assert api.get(f"/v1/runs/{judged}").json()["state"] == "completed"
    issue(worker, judged, None)  # a message that came twice, or a wish without a reason
    assert kept(worker, judged)[0][1] == first
    key = signing_key()
    issue(worker, judged, key)
    [(_, second), (_, again)] = kept(worker, judged)
    assert again == first
    evidence, files = open_bundle(second)
    assert evidence.signing == key.described()
    (edition,) = evidence.editions
    assert edition.digests == {"en": hashlib.sha256(open_bundle(first)[1]["report.en.pdf"]).hexdigest()}
    assert [check.what for check in verify(second) if not check.held] == []
    assert api.get(f"/v1/runs/{judged}/report").content == files["report.en.pdf"]
    assert api.get(f"/v1/runs/{judged}/report", params={"format": "docx"}).content == files["report.en.docx"]
