"""Trace one shard: take it, measure its cells, save them."""

from collections.abc import Sequence

import numpy as np

from audit_service.db.tables import RunRow
from audit_service.dispatch import Task
from audit_service.domain.labels import LabelTokens
from audit_service.domain.plan import ShardKind
from audit_service.domain.trace import Control, DecisionCells, EffectCells, Trace
from audit_service.errors import Cancelled
from workers.engine.decisions import measure_decisions
from workers.engine.determinism import make_deterministic, measured
from workers.engine.patching import PairEffects, trace_pair
from workers.engine.selfcheck import run_controls
from workers.engine.subject import Subject
from workers.engine.tokens import EncodedPair, labels_of, prompts_of
from workers.leases import Heartbeat, Lease, give_back, save, take
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
            cells, controls = trace_shard(subject, lease, heartbeat)
    except BaseException as error:
        give_back(worker, lease)
        if isinstance(error, Cancelled):
            return
        raise
    save(worker, lease, Trace.of(cells), measured(subject, controls))
    step(worker, run_id)


def trace_shard(
    subject: Subject, lease: Lease, heartbeat: Heartbeat
) -> tuple[DecisionCells | EffectCells, tuple[Control, ...]]:
    """The cells of the shard, and the controls that were run on its first pair."""
    encoded = [prompts_of(subject, pair) for pair in lease.pairs]
    labels = labels_of(subject, lease.plan.behavior.labels)
    controls = run_controls(subject, encoded[0], labels)
    if lease.kind is ShardKind.DECISIONS:
        return _decisions(subject, encoded, labels, heartbeat), controls
    return _effects(subject, lease, encoded, labels, heartbeat), controls


def _decisions(
    subject: Subject, pairs: Sequence[EncodedPair], labels: LabelTokens, heartbeat: Heartbeat
) -> DecisionCells:
    prompts = [ids for pair in pairs for ids in (pair.clean_ids, pair.corrupt_ids)]

    def progress(done: int, total: int, effect: float) -> None:  # noqa: ARG001 - a decision has no effect yet
        heartbeat.progress(done / total, None)

    found = measure_decisions(subject, prompts, labels, progress=progress, should_stop=heartbeat.should_stop)
    return DecisionCells(
        d=found.d.reshape(-1, 2),
        log_p_favorable=found.log_p_favorable.reshape(-1, 2),
        log_p_unfavorable=found.log_p_unfavorable.reshape(-1, 2),
    )


def _effects(
    subject: Subject, lease: Lease, pairs: Sequence[EncodedPair], labels: LabelTokens, heartbeat: Heartbeat
) -> EffectCells:
    found = [_pair_effects(subject, lease, pair, labels, heartbeat, number=number) for number, pair in enumerate(pairs)]
    return EffectCells(
        d_clean=np.array([pair.d_clean for pair in found], dtype=np.float32),
        d_corrupt=np.array([pair.d_corrupt for pair in found], dtype=np.float32),
        patched=np.stack([pair.patched for pair in found]),
    )


def _pair_effects(
    subject: Subject, lease: Lease, pair: EncodedPair, labels: LabelTokens, heartbeat: Heartbeat, *, number: int
) -> PairEffects:
    plan = lease.plan
    assert lease.direction is not None  # noqa: S101 - every shard of effects has one

    def progress(done: int, total: int, effect: float) -> None:
        heartbeat.progress((number + done / total) / len(lease.pairs), effect)

    return trace_pair(
        subject,
        pair,
        plan.sites,
        direction=lease.direction,
        labels=labels,
        mapping=plan.tracing.mapping,
        progress=progress,
        should_stop=heartbeat.should_stop,
    )
