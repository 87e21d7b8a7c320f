"""A retrained version arrives from MLflow, and everything that follows happens by itself."""

import io
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from junitparser import JUnitXml
from pypdf import PdfReader
from rich.console import Console

from audit_service import running
from audit_service.auditfiles import read_audit
from audit_service.client import Client
from audit_service.domain.auditfile import ModelSource
from audit_service.domain.drift import Change
from audit_service.domain.lifecycle import ImportState, RunState
from audit_service.domain.notifications import TargetKind
from audit_service.embedded.processes import wait_until
from audit_service.modelimports.schemas import ImportCreate
from audit_service.notifications import webhooks
from audit_service.notifications.schemas import NewTarget, TargetCreate
from audit_service.processes import kept_token
from audit_service.schedules.schemas import ScheduleCreate
from audit_service.settings import Settings
from tests.folders import open_folder
from tests.journey.conftest import COMMAND, Machine, environment, up
from tests.journey.test_recovery import ended
from tests.mlflow_server import mlflow_server, register, registry
from tests.receivers import Hook, Letterbox, hook_server, mail_server
from tests.retraining import retrain

SECRET = "shared-with-mlflow"
PATIENCE = 180


@dataclass(frozen=True)
class World:
    """The service with its surroundings: a model registry, a receiver of webhooks, a mail server."""

    machine: Machine
    registry: str
    hook: Hook
    letters: Letterbox

    @property
    def client(self) -> Client:
        return self.machine.client


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with (
        open_folder() as folder,
        mlflow_server(folder) as registry,
        hook_server() as hook,
        mail_server() as (mail, letters),
        up(
            folder,
            AUDIT_MLFLOW_URI=registry,
            AUDIT_MLFLOW_WEBHOOK_SECRET=SECRET,
            AUDIT_WEBHOOK_NETWORKS='["127.0.0.0/8"]',
            AUDIT_SMTP_URL=f"smtp://{mail}",
        ) as machine,
    ):
        yield World(machine, registry, hook, letters)


@pytest.fixture(scope="module")
def accepted(world: World, audit_file: Path) -> str:
    """Version 1, imported from MLflow, audited, and accepted by a reviewer."""
    client = world.client
    events = f"{address(world)}/v1/mlflow/events"
    registry(world.registry).create_webhook("audit", events, ["model_version.created"], secret=SECRET)
    version = register(world.registry, "tiny", audit_file.parent / "model")
    client.import_model(ImportCreate(name="tiny", version=version))
    eventually(lambda: [one.state for one in client.model_imports()] == [ImportState.DONE])
    [imported] = client.model_versions(model="tiny")
    audit = read_audit(audit_file)
    source = ModelSource(name="tiny", version=imported.version, path=imported.path)
    plan = running.make_plan(client, audit_file, audit.model_copy(update={"model": source}), Console(quiet=True))
    run = client.start_run(plan.id)
    assert ended(client, run.id) is RunState.COMPLETED, client.run(run.id).reason
    accept(world, run.id)
    return run.id


def accept(world: World, run_id: str) -> None:
    """The verdict passes two people: the administrator submits it, a reviewer accepts it."""
    digest = world.client.verdict(run_id).digest
    password = "a long enough secret"
    person = {"email": "rita@bank.example", "name": "Rita", "role": "reviewer", "password": password}
    with httpx.Client(base_url=address(world), headers={"Authorization": f"Bearer {token(world)}"}) as api:
        assert api.post("/v1/users", json=person).status_code in {200, 201}
        made = api.post("/v1/approvals", json={"record": "verdict", "run_id": run_id, "digest": digest}).json()
        session = api.post("/v1/sessions", json={"email": person["email"], "password": password}).json()
        reviewer = {"Authorization": f"Bearer {session['token']}"}
        decision = {"decision": "accepted", "digest": digest}
        answer = api.post(f"/v1/approvals/{made['id']}/decision", json=decision, headers=reviewer)
        assert answer.status_code == 200, answer.text


def address(world: World) -> str:
    found = running.processes.running(Settings(data_dir=world.machine.data_dir))
    assert found is not None
    return found.url


def token(world: World) -> str | None:
    return kept_token(Settings(data_dir=world.machine.data_dir))


@pytest.fixture(scope="module")
def targets(world: World) -> NewTarget:
    """Both ways of being told; the webhook, with its secret."""
    client = world.client
    client.add_notification_target(TargetCreate(kind=TargetKind.EMAIL, address="risk@bank.example"))
    return client.add_notification_target(TargetCreate(kind=TargetKind.WEBHOOK, address=world.hook.url))


@pytest.fixture(scope="module")
def revalidated(
    world: World, accepted: str, targets: NewTarget, audit_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Version 2, retrained: all that is done by hand is its registration in MLflow."""
    client = world.client
    client.make_schedule(ScheduleCreate(name="on retraining", model="tiny", behavior="loan-denial-race"))
    behavior = read_audit(audit_file).behavior
    target = tmp_path_factory.mktemp("retrained") / "model"
    register(world.registry, "tiny", retrain(audit_file.parent / "model", target, behavior, grow=2.0))
    eventually(lambda: [one.run.state for one in client.revalidations()] == [RunState.COMPLETED])
    [made] = client.revalidations(earlier_run_id=accepted)
    return made.run_id


def eventually(ready: Callable[[], bool]) -> None:
    assert wait_until(lambda: ready() or bool(time.sleep(0.3)), seconds=PATIENCE)


def test_the_change_is_found_with_its_size(world: World, revalidated: str) -> None:
    drift = world.client.revalidation(revalidated).drift
    assert drift is not None
    assert drift.output is Change.CHANGED
    rows = {row.key: row for row in world.client.results(revalidated, prefix="drift.")}
    change = rows["drift.raw.race.black.gap_change_nats"]
    assert change.value is not None
    assert change.low is not None
    assert change.low > 0.5
    assert rows["drift.raw.denoise.rank_correlation"].value is not None
    assert set(rows) == {result.key for result in drift.results}


def test_the_new_report_names_its_predecessor(world: World, accepted: str, revalidated: str) -> None:
    text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(world.client.report(revalidated))).pages)
    plan = world.client.run(accepted).plan_digest
    predecessor = f"AE-{plan[:6].upper()}-{accepted.replace('-', '')[:8].upper()}"
    assert predecessor in text.replace("\n", "")


def test_both_were_told_and_the_webhook_is_signed(
    world: World, accepted: str, revalidated: str, targets: NewTarget
) -> None:
    eventually(lambda: bool(world.hook.posted) and bool(world.letters.letters))
    [(headers, body)] = world.hook.posted
    said = json.loads(body)
    assert said["type"] == "revalidation.completed"
    assert (said["data"]["run"], said["data"]["earlier_run"]) == (revalidated, accepted)
    assert (said["data"]["version"], said["data"]["earlier_version"]) == ("2", "1")
    assert said["data"]["output"] == "changed"
    assert targets.secret is not None
    at = int(headers["webhook-timestamp"])
    signed = webhooks.signature(targets.secret, message_id=said["id"], timestamp=at, body=body)
    assert headers["webhook-signature"] == signed
    [letter] = world.letters.letters
    assert letter["Subject"] == "Revalidation completed: loan-denial-race on tiny 2"
    assert "the gap changed by" in str(letter.get_payload(decode=True), "utf-8")


def test_the_gate_fails_and_says_why(world: World, accepted: str, revalidated: str, tmp_path: Path) -> None:
    asked = [
        "gate",
        "--model",
        "tiny",
        "--behavior",
        "loan-denial-race",
        "--json",
        "--junit",
        str(tmp_path / "gate.xml"),
    ]
    answer = subprocess.run(
        [*COMMAND, *asked], check=False, env=environment(world.machine.data_dir), capture_output=True, text=True
    )
    assert answer.returncode == 1, answer.stdout + answer.stderr
    report = json.loads(answer.stdout)
    assert (report["run"], report["baseline_run"], report["baseline_version"]) == (revalidated, accepted, "1")
    [suite] = JUnitXml.fromfile(str(tmp_path / "gate.xml"))
    failed = [case.name for case in suite if case.result and case.result[0].type == "fail"]
    assert "change.raw.race.black" in failed
    [entry] = world.client.calendar()
    assert (entry.run_id, entry.standing, entry.overdue) == (revalidated, "completed", False)
