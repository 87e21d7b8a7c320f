"""A run that is killed, paused or interrupted ends with the same bytes as one that is left alone."""

from pathlib import Path

import psutil
import pytest
from rich.console import Console

from audit_service import running
from audit_service.auditfiles import read_audit
from audit_service.audits.schemas import PlanRecord
from audit_service.client import Client
from audit_service.domain.lifecycle import EventKind, RunState
from audit_service.embedded.processes import wait_until
from tests.journey.conftest import Machine


@pytest.fixture(scope="module")
def plan(machine: Machine, audit_file: Path) -> PlanRecord:
    return running.make_plan(machine.client, audit_file, read_audit(audit_file), Console(quiet=True))


@pytest.fixture(scope="module")
def undisturbed(machine: Machine, plan: PlanRecord) -> dict[str, str]:
    run = machine.client.start_run(plan.id)
    assert ended(machine.client, run.id) is RunState.COMPLETED
    return digests(machine.client, run.id)


def ended(client: Client, run_id: str) -> RunState:
    for _ in client.follow(run_id):
        pass
    return client.run(run_id).state


def digests(client: Client, run_id: str) -> dict[str, str]:
    """Shard → digest of its cells, and the digest of the judgement."""
    return {trace.shard_key: trace.digest for trace in client.traces(run_id)} | {
        "judgement": client.verdict(run_id).digest
    }


def until_tracing(client: Client, run_id: str) -> None:
    """Return while a shard is in a worker's hands and some are done already."""
    assert wait_until(lambda: 0 < client.run(run_id).progress.shards_done < 5, seconds=60)


def kill(worker: psutil.Process) -> None:
    for process in [*worker.children(recursive=True), worker]:
        process.kill()


class TestRecovery:
    def test_a_killed_worker_loses_and_doubles_nothing(
        self, machine: Machine, plan: PlanRecord, undisturbed: dict[str, str]
    ) -> None:
        run = machine.client.start_run(plan.id)
        until_tracing(machine.client, run.id)
        before = machine.worker()
        kill(before)
        assert ended(machine.client, run.id) is RunState.COMPLETED
        assert digests(machine.client, run.id) == undisturbed
        assert machine.worker().pid != before.pid

    def test_a_killed_child_of_the_worker_is_replaced(
        self, machine: Machine, plan: PlanRecord, undisturbed: dict[str, str]
    ) -> None:
        run = machine.client.start_run(plan.id)
        until_tracing(machine.client, run.id)
        for child in machine.worker().children():
            child.kill()
        assert ended(machine.client, run.id) is RunState.COMPLETED
        assert digests(machine.client, run.id) == undisturbed

    def test_a_paused_run_goes_on_where_it_stopped(
        self, machine: Machine, plan: PlanRecord, undisturbed: dict[str, str]
    ) -> None:
        client = machine.client
        run = client.start_run(plan.id)
        until_tracing(client, run.id)
        client.pause(run.id)
        done = {trace.shard_key for trace in client.traces(run.id)}
        assert client.run(run.id).state is RunState.PAUSED
        client.resume(run.id)
        assert ended(client, run.id) is RunState.COMPLETED
        assert done
        assert digests(client, run.id) == undisturbed
        shards = [event.data["key"] for event in client.follow(run.id) if event.kind is EventKind.SHARD]
        assert len(shards) == len(set(shards))

    def test_a_cancelled_run_ends_without_a_verdict(self, machine: Machine, plan: PlanRecord) -> None:
        client = machine.client
        run = client.start_run(plan.id)
        until_tracing(client, run.id)
        client.cancel(run.id)
        assert ended(client, run.id) is RunState.CANCELLED

    def test_two_runs_at_once_both_end_with_the_same_bytes(
        self, machine: Machine, plan: PlanRecord, undisturbed: dict[str, str]
    ) -> None:
        runs = [machine.client.start_run(plan.id) for _ in range(2)]
        for run in runs:
            assert ended(machine.client, run.id) is RunState.COMPLETED
            assert digests(machine.client, run.id) == undisturbed
