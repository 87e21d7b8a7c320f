"""A run of two stages: what leads in the first is exchanged together in the second."""

import numpy as np
import pytest

from audit_service import dispatch
from audit_service.db.tables import RunRow
from audit_service.domain.lifecycle import RunState, ShardState
from audit_service.domain.plan import Direction, ShardKind
from audit_service.domain.trace import Control, DecisionCells, EffectCells, Measured, Trace
from tests.service import Audit
from tests.workers.conftest import shards
from workers.cells import load
from workers.leases import Lease, save, take
from workers.runtime import Runtime
from workers.tasks.advance import step

PASSED = Control(name="self-patch", measured=0.0, tolerance=1e-4, passed=True)
MEASURED = Measured(
    device="cpu", dtype="float32", torch="2", transformers="5", threads=1, attention="eager", controls=(PASSED,)
)
LEADING = ("z.L0.1.all", "z.L1.2.all")


@pytest.fixture
def run_id(audit: Audit, worker: Runtime) -> str:
    parts = {
        "model_version_id": audit.model()["id"],
        "behavior_version_id": audit.behavior()["id"],
        "pair_set_id": audit.pair_set()["id"],
        "judging": {"delta_nats": 0.1, "resamples": 1000},
        "tracing": {"kinds": ["z"], "joint_sites": 2},
    }
    made: str = audit.create("runs", {"plan_id": audit.create("plans", parts)["id"]})["id"]
    step(worker, made)
    return made


def measured(lease: Lease) -> Trace:
    """Either of two heads has the whole effect of half a nat (OR), and all others none."""
    count = len(lease.pairs)
    if lease.kind is ShardKind.DECISIONS:
        d = np.tile(np.array([0.5, 0.0], np.float32), (count, 1))
        return Trace.of(DecisionCells(d, *(np.log(0.9 / (1 + np.exp(sign * d))) for sign in (-1, 1))))
    clean, corrupt = np.full(count, 0.5, np.float32), np.zeros(count, np.float32)
    restores = lease.direction is Direction.DENOISE
    recipient, donor = (corrupt, clean) if restores else (clean, corrupt)
    if lease.kind is ShardKind.JOINT:
        return Trace.of(EffectCells(clean, corrupt, donor[:, None].copy()))
    patched = np.tile(recipient[:, None], (1, len(lease.plan.sites)))
    for index, site in enumerate(lease.plan.sites):
        if site.key in LEADING and restores:
            patched[:, index] = donor
    return Trace.of(EffectCells(clean, corrupt, patched))


def trace_pending(worker: Runtime, run_id: str) -> list[ShardKind]:
    kinds = []
    for shard in shards(worker, run_id):
        if shard.state is ShardState.PENDING:
            lease = take(worker, run_id, shard.key)
            assert lease is not None
            save(worker, lease, measured(lease), MEASURED)
            kinds.append(shard.kind)
    step(worker, run_id)
    return kinds


def state(worker: Runtime, run_id: str) -> RunState:
    with worker.database.reading() as session:
        return session.get_one(RunRow, run_id).state


def test_the_second_stage_is_cut_once_from_the_cells_of_the_first_and_then_judged(worker: Runtime, run_id: str) -> None:
    first = trace_pending(worker, run_id)
    assert set(first) == {ShardKind.DECISIONS, ShardKind.EFFECTS}
    assert state(worker, run_id) is RunState.RUNNING
    joint = [shard for shard in shards(worker, run_id) if shard.kind is ShardKind.JOINT]
    assert {tuple(shard.sites) for shard in joint} == {LEADING}
    assert {shard.direction for shard in joint} == set(Direction)
    waiting = dispatch.waiting(dispatch.GPU)
    step(worker, run_id)
    assert len(shards(worker, run_id)) == len(first) + len(joint)
    assert dispatch.waiting(dispatch.GPU) == waiting

    assert trace_pending(worker, run_id) == [ShardKind.JOINT] * len(joint)
    assert state(worker, run_id) is RunState.JUDGING
    with worker.database.reading() as session:
        tables = load(session, run_id).tables
    assert {(table.alone.form, table.alone.direction) for table in tables.joint} == {
        (form, way) for form in ("raw", "chat") for way in Direction
    }
    chosen = {pair.id for table in tables.joint for pair in table.alone.pairs}
    traced = {pair.id for table in tables.effects for pair in table.pairs}
    assert chosen < traced, "the pairs that chose the sites are not judged"
