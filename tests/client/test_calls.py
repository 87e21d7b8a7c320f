import asyncio
import threading
import time
from pathlib import Path

import pytest

from audit_service.audits import lifecycle
from audit_service.audits.schemas import PlanCreate
from audit_service.client import AsyncClient, Client
from audit_service.db.handles import Database
from audit_service.db.tables import ReportRow, ResultRow
from audit_service.domain.lifecycle import EventKind, RunState
from audit_service.domain.pairreaders import PairFormat
from audit_service.domain.plan import Direction, Judging, Plan
from audit_service.domain.results import Outcome, Result, VerdictValue
from audit_service.domain.trace import Trace
from audit_service.errors import Conflict, InvalidPairs, NotFound
from audit_service.findings.cells import CellFormat
from audit_service.pairsets.schemas import PreviewCreate
from audit_service.registry.schemas import ModelVersionCreate
from tests.examples import loan_denial
from tests.findings.made import KEY, add_findings
from tests.service import Audit


def test_an_audit_is_driven_from_registration_to_its_report(
    client: Client, model_folder: Path, database: Database
) -> None:
    model = client.register_model(ModelVersionCreate(name="tiny", version="1", path=str(model_folder)))
    behavior = client.register_behavior(loan_denial().behavior)
    pairs = client.generate_pairs(behavior.id)
    preview = client.ask_preview(pairs.id, PreviewCreate(model_version_id=model.id, behavior_version_id=behavior.id))
    assert client.preview(preview.id) == preview
    plan = client.make_plan(
        PlanCreate(
            model_version_id=model.id,
            behavior_version_id=behavior.id,
            pair_set_id=pairs.id,
            judging=Judging(delta_nats=0.1),
        )
    )
    assert plan.content.behavior == loan_denial().behavior
    assert client.plan(plan.id) == plan
    assert [one.id for one in client.model_versions(model="tiny")] == [model.id]
    assert [one.id for one in client.behavior_versions(behavior="loan-denial-race")] == [behavior.id]
    assert len(list(client.pairs(pairs.id))) == pairs.count
    run = client.start_run(plan.id)
    assert client.pause(run.id).state is RunState.PAUSED
    assert client.resume(run.id).state is RunState.QUEUED
    with database.writing() as session:
        session.add(ReportRow(run_id=run.id, language="en", pdf=b"%PDF", view=b"{}", html=b"", docx=b"", digest="d"))
    assert client.report(run.id) == b"%PDF"
    assert [report.language for report in client.reports(run.id)] == ["en"]
    assert client.cancel(run.id).state is RunState.CANCELLED
    assert client.run(run.id).progress.total == 0
    assert [one.id for one in client.runs(state=RunState.CANCELLED)] == [run.id]


def test_what_a_run_found_is_read_as_values(client: Client, audit: Audit, database: Database) -> None:
    run_id = audit.run()["id"]
    add_findings(database, run_id, Plan.model_validate(audit.plan()["content"], strict=False))
    judgement = client.verdict(run_id).judgement
    assert judgement.verdict.value is VerdictValue.FAIL
    assert [result.value for result in client.results(run_id)] == [result.value for result in judgement.results]
    first, second = client.effects(run_id, form="raw", direction=Direction.DENOISE)
    assert (first.value, first.p_maxt, second.outcome) == (1.0, 0.04, Outcome.NOT_MEASURED)
    cells = Trace(client.cells(run_id, KEY, file_format=CellFormat.SAFETENSORS)).effects()
    assert cells.d_clean.tolist() == [1.0, 2.0]


def test_problems_are_raised_as_the_errors_they_stand_for(client: Client) -> None:
    with pytest.raises(InvalidPairs, match="row 2") as caught:
        client.upload_pairs(b"attribute,reference_group\nx,y\n", name="x", file_format=PairFormat.CSV)
    assert caught.value.remedy
    with pytest.raises(NotFound, match="GET /v1/runs"):
        client.run("01936f5e-7c1a-7a3e-8f00-0242ac120002")


def test_a_conflict_is_a_conflict(client: Client, audit: Audit) -> None:
    run_id = audit.run()["id"]
    client.cancel(run_id)
    with pytest.raises(Conflict, match="From cancelled"):
        client.pause(run_id)


def test_lists_are_read_over_all_their_pages(client: Client, audit: Audit, database: Database) -> None:
    run_id = audit.run()["id"]
    keys = [f"raw.{number}" for number in range(450)]
    with database.writing() as session:
        session.add_all(ResultRow.of(run_id, Result(key=key, value=1.0, unit="nats", method="mean")) for key in keys)
    assert [result.key for result in client.results(run_id)] == keys
    assert len(list(client.results(run_id, prefix="raw.44"))) == 11


def test_following_ends_with_the_run_and_survives_a_cut_stream(
    client: Client, audit: Audit, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit_service.events.endpoints.LONGEST_SECONDS", 0.3)
    run_id = audit.run()["id"]

    def work() -> None:
        for state in (RunState.RUNNING, RunState.JUDGING, RunState.FAILED):
            time.sleep(0.5)
            with database.writing() as session:
                lifecycle.move(session, run_id, state, by="test")

    thread = threading.Thread(target=work)
    thread.start()
    seen = [event.data["to"] for event in client.follow(run_id) if event.kind is EventKind.STATE]
    thread.join()
    assert seen == ["queued", "running", "judging", "failed"]


def test_following_does_not_stop_at_a_failure_that_was_resumed(
    client: Client, audit: Audit, database: Database
) -> None:
    run_id = audit.run()["id"]
    for state in (RunState.FAILED, RunState.QUEUED, RunState.CANCELLED):
        with database.writing() as session:
            lifecycle.move(session, run_id, state, by="test")
    assert [event.data["to"] for event in client.follow(run_id)] == ["queued", "failed", "queued", "cancelled"]


def test_a_program_with_an_event_loop_awaits_the_same_calls(
    url: str, token: str, audit: Audit, database: Database
) -> None:
    run_id = audit.run()["id"]
    add_findings(database, run_id, Plan.model_validate(audit.plan()["content"], strict=False))

    async def read() -> None:
        async with AsyncClient(url, token=token) as client:
            one, other = await asyncio.gather(client.verdict(run_id), client.verdict(run_id))
            assert one == other
            assert [run.id async for run in client.runs()] == [run_id]
            assert [result.key async for result in client.results(run_id, prefix="raw.race.")] == [
                "raw.race.black.gap_nats"
            ]
            assert (await client.cancel(run_id)).state is RunState.CANCELLED
            states = [event.data["to"] async for event in client.follow(run_id) if event.kind is EventKind.STATE]
            assert states == ["queued", "cancelled"]
            with pytest.raises(Conflict, match="From cancelled"):
                await client.pause(run_id)

    asyncio.run(read())


def test_the_blocking_client_works_where_an_event_loop_runs(url: str, token: str, audit: Audit) -> None:
    run_id = audit.run()["id"]

    async def cell_of_a_notebook() -> list[str]:
        with Client(url, token=token) as client:
            return [run.id for run in client.runs()]

    assert asyncio.run(cell_of_a_notebook()) == [run_id]
