import pytest

from audit_service import dispatch
from audit_service.db.tables import RunRow
from audit_service.domain.lifecycle import RunState, ShardState
from tests.service import Audit
from tests.workers.conftest import let_expire, shards
from workers.leases import take
from workers.runtime import Runtime
from workers.tasks.reap import ATTEMPTS, look_after


def state(worker: Runtime, run_id: str) -> RunState:
    with worker.database.reading() as session:
        return session.get_one(RunRow, run_id).state


class TestReap:
    def test_a_dead_workers_shard_is_freed_and_queued(self, worker: Runtime, run_id: str, empty_queue: None) -> None:
        key = shards(worker, run_id)[0].key
        take(worker, run_id, key)
        let_expire(worker, run_id)
        look_after(worker)
        assert shards(worker, run_id)[0].state is ShardState.PENDING
        assert dispatch.waiting(dispatch.GPU) >= 1
        assert take(worker, run_id, key) is not None

    def test_a_live_workers_shard_is_left_alone(self, worker: Runtime, run_id: str, empty_queue: None) -> None:
        take(worker, run_id, shards(worker, run_id)[0].key)
        look_after(worker)
        assert shards(worker, run_id)[0].state is ShardState.RUNNING
        assert dispatch.waiting(dispatch.GPU) == 0

    def test_lost_messages_are_sent_again_once(self, worker: Runtime, run_id: str, empty_queue: None) -> None:
        let_expire(worker, run_id)
        look_after(worker)
        look_after(worker)
        assert dispatch.waiting(dispatch.GPU) == len(shards(worker, run_id))

    def test_a_run_whose_first_message_was_lost_is_started(
        self, worker: Runtime, audit: Audit, request: pytest.FixtureRequest
    ) -> None:
        run_id = audit.run()["id"]
        request.getfixturevalue("empty_queue")
        let_expire(worker, run_id)
        look_after(worker)
        assert state(worker, run_id) is RunState.RUNNING
        assert dispatch.waiting(dispatch.GPU) == len(shards(worker, run_id))

    def test_a_shard_that_kills_every_worker_fails_its_run_with_a_remedy(self, worker: Runtime, run_id: str) -> None:
        for _ in range(ATTEMPTS):
            assert state(worker, run_id) is RunState.RUNNING
            take(worker, run_id, shards(worker, run_id)[0].key)
            let_expire(worker, run_id)
            look_after(worker)
        with worker.database.reading() as session:
            run = session.get_one(RunRow, run_id)
        assert run.state is RunState.FAILED
        assert run.reason is not None
        assert "more memory" in run.reason
