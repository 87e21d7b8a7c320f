import time

import numpy as np
import pytest
from sqlalchemy import func, select

from audit_service.audits import lifecycle
from audit_service.db.tables import TraceRow
from audit_service.domain.lifecycle import RunState, ShardState
from audit_service.domain.trace import DecisionCells, Measured, Trace
from tests.workers.conftest import shards
from workers import leases
from workers.leases import Heartbeat, Lease, give_back, save, take
from workers.runtime import Runtime

MEASURED = Measured(
    device="cpu", dtype="float32", torch="2", transformers="5", threads=1, attention="eager", controls=()
)


@pytest.fixture
def lease(worker: Runtime, run_id: str) -> Lease:
    taken = take(worker, run_id, shards(worker, run_id)[0].key)
    assert taken is not None
    return taken


def cells(value: float) -> Trace:
    array = np.full((2, 2), value, np.float32)
    return Trace.of(DecisionCells(d=array, log_p_favorable=array, log_p_unfavorable=array))


def other(worker: Runtime) -> Runtime:
    return Runtime("worker:there:2", worker.database, worker.models)


class TestTake:
    def test_a_taken_shard_comes_with_its_pairs_in_order(self, worker: Runtime, lease: Lease) -> None:
        shard = shards(worker, lease.run_id)[0]
        assert [pair.id for pair in lease.pairs] == shard.pair_ids
        assert (shard.state, shard.worker, shard.attempts) == (ShardState.RUNNING, worker.name, 1)

    def test_a_second_delivery_finds_nothing_to_take(self, worker: Runtime, lease: Lease) -> None:
        assert take(other(worker), lease.run_id, lease.shard_key) is None

    def test_a_saved_shard_is_not_taken_again(self, worker: Runtime, lease: Lease) -> None:
        save(worker, lease, cells(1), MEASURED)
        assert take(worker, lease.run_id, lease.shard_key) is None

    @pytest.mark.parametrize("state", [RunState.PAUSED, RunState.CANCELLED, RunState.FAILED])
    def test_a_resting_run_gives_out_nothing(self, worker: Runtime, run_id: str, state: RunState) -> None:
        with worker.database.writing() as session:
            lifecycle.move(session, run_id, state, by="test")
        assert take(worker, run_id, shards(worker, run_id)[0].key) is None

    def test_a_shard_that_was_given_back_can_be_taken(self, worker: Runtime, lease: Lease) -> None:
        give_back(worker, lease)
        again = take(other(worker), lease.run_id, lease.shard_key)
        assert again == lease

    def test_what_another_worker_holds_is_not_given_back(self, worker: Runtime, lease: Lease) -> None:
        give_back(other(worker), lease)
        assert shards(worker, lease.run_id)[0].state is ShardState.RUNNING


class TestSave:
    def test_of_two_workers_the_first_one_saves(self, worker: Runtime, lease: Lease) -> None:
        save(worker, lease, cells(1), MEASURED)
        save(other(worker), lease, cells(2), MEASURED)
        with worker.database.reading() as session:
            assert session.scalar(select(func.count()).select_from(TraceRow)) == 1
            stored = session.get_one(TraceRow, (lease.run_id, lease.shard_key))
            assert stored.payload == cells(1).payload
            assert stored.digest == cells(1).digest


class TestHeartbeat:
    @pytest.fixture(autouse=True)
    def _quickly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(leases, "HEARTBEAT_S", 0.02)

    def wait_for(self, heartbeat: Heartbeat) -> bool:
        deadline = time.monotonic() + 5
        while not heartbeat.should_stop() and time.monotonic() < deadline:
            time.sleep(0.01)
        return heartbeat.should_stop()

    def test_progress_reaches_the_row(self, worker: Runtime, lease: Lease) -> None:
        with Heartbeat(worker, lease).beating() as heartbeat:
            heartbeat.progress(0.5, 0.25)
            deadline = time.monotonic() + 5
            while shards(worker, lease.run_id)[0].done == 0 and time.monotonic() < deadline:
                time.sleep(0.01)
        shard = shards(worker, lease.run_id)[0]
        assert (shard.done, shard.running_effect) == (shard.total // 2, 0.25)
        assert not heartbeat.should_stop()

    @pytest.mark.parametrize("state", [RunState.PAUSED, RunState.CANCELLED])
    def test_a_run_that_rests_stops_the_shard(self, worker: Runtime, lease: Lease, state: RunState) -> None:
        with Heartbeat(worker, lease).beating() as heartbeat:
            with worker.database.writing() as session:
                lifecycle.move(session, lease.run_id, state, by="test")
            assert self.wait_for(heartbeat)

    def test_a_shard_in_other_hands_stops_the_first(self, worker: Runtime, lease: Lease) -> None:
        with Heartbeat(worker, lease).beating() as heartbeat:
            give_back(worker, lease)
            take(other(worker), lease.run_id, lease.shard_key)
            assert self.wait_for(heartbeat)
