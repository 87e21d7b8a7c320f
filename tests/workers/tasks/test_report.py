"""The report task keeps reports and bundle together, once for the same records, and never changes what it kept."""

import hashlib
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pypdf import PdfReader
from typer import Typer
from typer.testing import CliRunner

from audit_service.db.tables import BundleRow
from audit_service.reports import repository
from tests.identity.made import add_user, sign_in
from tests.service import bearer
from tests.workers.judged import judge_invented
from tests.workers.rendering.keys import signing_key
from workers.commands.verify import verify as verify_command
from workers.rendering import numbers
from workers.rendering.catalogue import catalogue
from workers.rendering.context import Context
from workers.rendering.evidence import Evidence
from workers.rendering.verifying import open_bundle, verify
from workers.runtime import Runtime
from workers.tasks.report import issue


@pytest.fixture
def judged(worker: Runtime, run_id: str, model_folder: Path) -> str:
    """A run with invented cells and their real verdict, about to be reported; its toy model was changed meanwhile."""
    (model_folder / "config.json").write_text("{}")
    judge_invented(worker, run_id)
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
    logged = [one["data"] for one in api.get("/v1/events", params={"kind": "report"}).json()["items"]]
    assert [(one["what"], one["edition"]) for one in logged] == [("issued", 1), ("issued", 2)]
    assert logged[0]["digests"] == edition.digests
    assert api.get(f"/v1/runs/{judged}/report", params={"format": "docx"}).content == files["report.en.docx"]


def test_what_two_people_put_on_record_stands_in_the_next_edition(
    worker: Runtime, judged: str, api: TestClient, tmp_path: Path
) -> None:
    issue(worker, judged, None)
    run = f"/v1/runs/{judged}"
    verdict, [first] = api.get(f"{run}/verdict").json(), api.get(f"{run}/reports").json()
    evidence, _ = open_bundle(kept(worker, judged)[0][1])
    assert downgrades(evidence) == {"DG1": "applies", "DG8": "not_evaluated", "DG10": "not_evaluated"}

    ends = datetime.now(UTC) + timedelta(days=30)
    risk = {"kind": "risk", "reason": "Known and watched.", "expires": ends.isoformat()}
    wanted: list[dict[str, Any]] = [
        {"record": "verdict", "digest": verdict["digest"]},
        {"record": "report", "digest": first["digest"]},
        {"record": "risk_acceptance", "acceptance": risk},
        {"record": "risk_acceptance", "acceptance": risk | {"reason": "Nobody decided on this one."}},
    ]
    submitted = [api.post("/v1/approvals", json=one | {"run_id": judged}).json() for one in wanted]
    add_user(api, "rita@bank.example", "reviewer")
    rita = bearer(sign_in(api, "rita@bank.example").json()["token"])
    for one in submitted[:3]:
        decision = {"decision": "accepted", "digest": one["record_digest"]}
        assert api.post(f"/v1/approvals/{one['id']}/decision", json=decision, headers=rita).status_code == 200
    schedule = {"name": "yearly", "model": "tiny", "behavior": "loan-denial-race", "rule": {"cron": "0 3 1 1 *"}}
    assert api.post("/v1/schedules", json=schedule).status_code == 201
    answer = {"scope": "raw", "text": "We accept the finding.", "action": "Retrain.", "due": ends.isoformat()}
    assert api.post(f"{run}/responses", json=answer).status_code == 201
    [version] = api.get("/v1/model-versions").json()["items"]
    used = {"model_version_id": version["id"], "place": "production, card applications"}
    assert api.post("/v1/deployments", json=used).status_code == 201
    assert api.post(f"{run}/reports").status_code == 202
    issue(worker, judged, None)

    packed = api.get(f"{run}/bundle").content
    evidence, _ = open_bundle(packed)
    assert downgrades(evidence) == {"DG1": "holds", "DG8": "holds", "DG10": "holds"}
    assert evidence.currency.due == datetime(datetime.now(UTC).year + 1, 1, 1, 3, tzinfo=UTC)
    prepared, reviewed = "user:admin@localhost", "user:rita@bank.example"
    assert [(one.person, one.record, one.record_digest) for one in evidence.approvals] == [
        (person, one["record"], one["record_digest"])
        for one in submitted
        for person in ((prepared,) if one is submitted[3] else (prepared, reviewed))
    ]
    view = api.get(f"{run}/report", params={"format": "json"}).text
    pdf = PdfReader(io.BytesIO(api.get(f"{run}/report", params={"format": "pdf"}).content))
    printed = "".join("".join(page.extract_text().split()) for page in pdf.pages)
    shown = [f"{one['record_digest'][:16]}" for one in submitted]
    shown += [numbers.moment(one.at) for one in evidence.approvals]
    shown += ["We accept the finding. Action: Retrain.", used["place"], version["digest"][:16]]
    shown += [prepared, reviewed, "Nobody decided on this one.", "Not decided on; it does not hold.", first["digest"]]
    for text in shown:
        assert text in view
        assert "".join(text.split()) in printed
    (tmp_path / "second.zip").write_bytes(packed)
    command = Typer()
    command.command()(verify_command)
    checked = CliRunner().invoke(command, [str(tmp_path / "second.zip")])
    assert (checked.exit_code, "whole and consistent" in checked.stdout) == (0, True), checked.stdout

    link = api.post(f"{run}/shares", json={"days": 1}).json()["path"]
    assert api.get(link, headers={"Authorization": ""}).json()["edition"] == 2
    assert api.get(f"{link}/bundle", headers={"Authorization": ""}).content == packed


def downgrades(evidence: Evidence) -> dict[str, str]:
    """Those that ask for records of people and schedules."""
    states = Context.of(evidence, catalogue("en")).downgrades()
    return {name: str(states[name]) for name in ("DG1", "DG8", "DG10")}
