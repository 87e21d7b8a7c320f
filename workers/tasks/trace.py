"""Trace one shard: take it, measure its cells, save them."""

from audit_service.db.tables import RunRow
from audit_service.dispatch import Task
from audit_service.domain.plan import ShardKind
from audit_service.domain.trace import Control, DecisionCells, EffectCells, Trace
from audit_service.errors import Cancelled
from workers.calibrating import calibrate_once
from workers.engine.determinism import make_deterministic, measured
from workers.engine.selfcheck import run_controls
from workers.engine.subject import Subject
from workers.engine.tokens import labels_of, prompts_of
from workers.leases import Heartbeat, Lease, give_back, save, take
from workers.measuring import Watch, decision_cells, effect_cells, joint_sets, require_sites
from workers.runtime import runtime
from workers.tasks.advance import step
from workers.tasks.base import task


@task(Task.TRACE, of_run=True)
def trace(run_id: str, shard_key: str) -> None:
    """Measure the shard's cells, unless somebody has or the run rests."""
    worker = runtime().of(RunRow, run_id)
    if (lease := take(worker, run_id, shard_key)) is None:
        return
    try:
        with Heartbeat(worker, lease).beating() as heartbeat:
            make_deterministic(seed=lease.plan.tracing.seed)
            subject = worker.models.get(lease.plan.model, lease.model_path)
            calibrate_once(
                worker,
                subject,
                lease.plan.behavior,
                lease.pairs[0],
                model_version_id=lease.model_version_id,
                should_stop=heartbeat.should_stop,
            )
            cells, controls = trace_shard(subject, lease, heartbeat)
    except BaseException as error:
        give_back(worker, lease)
        if isinstance(error, Cancelled):
            return
        raise
    save(worker, lease, Trace.of(cells), measured(subject, controls))
    step(worker, run_id)


def trace_shard(
    subject: Subject, lease: Lease, watch: Watch
) -> tuple[DecisionCells | EffectCells, tuple[Control, ...]]:
    """The cells of the shard, and the controls that were run on its first pair."""
    plan = lease.plan
    require_sites(subject, plan)
    encoded = [prompts_of(subject, pair) for pair in lease.pairs]
    controls = run_controls(subject, encoded[0], labels_of(subject, plan.behavior.labels))
    if lease.kind is ShardKind.DECISIONS:
        return decision_cells(subject, plan, encoded, watch=watch), controls
    assert lease.direction is not None and lease.corruption is not None  # noqa: S101, PT018 - every such shard has both
    joint = lease.kind is ShardKind.JOINT
    cells = effect_cells(
        subject,
        plan,
        encoded,
        joint_sets(plan, lease.sites) if joint else [site.parts for site in plan.sites],
        direction=lease.direction,
        corruption=lease.corruption,
        partners=lease.partners,
        all_readouts=plan.tracing.all_readouts and not joint,
        watch=watch,
    )
    return cells, controls
