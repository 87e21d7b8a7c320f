"""Trace one shard: take it, measure its cells, save them."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from audit_service.db.tables import RunRow
from audit_service.dispatch import Task
from audit_service.domain.behaviors import Labels
from audit_service.domain.joint import site_pairs
from audit_service.domain.labels import LabelTokens
from audit_service.domain.metrics import ANSWER
from audit_service.domain.plan import ABLATIONS, Corruption, Plan, ShardKind
from audit_service.domain.sites import Site
from audit_service.domain.trace import Control, DecisionCells, EffectCells, Trace
from audit_service.errors import Cancelled
from workers.engine.decisions import Decisions, measure_decisions
from workers.engine.determinism import make_deterministic, measured
from workers.engine.patching import PairEffects
from workers.engine.selfcheck import run_controls
from workers.engine.subject import Subject
from workers.engine.tokens import EncodedPair, labels_of, prompts_of
from workers.engine.variants import setting_of, trace_variant
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
    controls = run_controls(subject, encoded[0], labels_of(subject, lease.plan.behavior.labels))
    if lease.kind is ShardKind.DECISIONS:
        return _decisions(subject, lease.plan, encoded, heartbeat), controls
    return _effects(subject, lease, encoded, heartbeat), controls


def _decisions(subject: Subject, plan: Plan, pairs: Sequence[EncodedPair], heartbeat: Heartbeat) -> DecisionCells:
    prompts = [ids for pair in pairs for ids in (pair.clean_ids, pair.corrupt_ids)]
    passes = 1 + len(_answers(plan))

    def measured(labels: Labels, *, number: int) -> Decisions:
        def progress(done: int, total: int, effect: float) -> None:  # noqa: ARG001 - a decision has no effect yet
            heartbeat.progress((number + done / total) / passes, None)

        tokens = labels_of(subject, labels)
        return measure_decisions(subject, prompts, tokens, progress=progress, should_stop=heartbeat.should_stop)

    found = measured(plan.behavior.labels, number=0)
    readouts = {"rank": found.rank.reshape(-1, 2)} if "rank" in plan.reads else {}
    for number, (name, labels) in enumerate(_answers(plan).items(), start=1):
        readouts[f"{ANSWER}{name}"] = measured(labels, number=number).log_p_favorable.reshape(-1, 2)
    return DecisionCells(
        d=found.d.reshape(-1, 2),
        log_p_favorable=found.log_p_favorable.reshape(-1, 2),
        log_p_unfavorable=found.log_p_unfavorable.reshape(-1, 2),
        readouts=readouts,
    )


def _answers(plan: Plan) -> dict[str, Labels]:
    """The numeric answers that the plan's metrics ask for."""
    return plan.behavior.answer_labels() if plan.reads_answers else {}


def _effects(subject: Subject, lease: Lease, pairs: Sequence[EncodedPair], heartbeat: Heartbeat) -> EffectCells:
    joint = lease.kind is ShardKind.JOINT
    sets = joint_sets(lease.plan, lease.sites) if joint else [site.parts for site in lease.plan.sites]
    keep = lease.plan.tracing.all_readouts and not joint
    answers = _answers(lease.plan) if keep else {}
    wanted = {"": lease.plan.behavior.labels} | answers
    found: dict[str, list[PairEffects]] = {name: [] for name in wanted}
    for number, (name, pair) in enumerate(product(wanted, pairs)):
        share = number / (len(wanted) * len(pairs)), 1 / (len(wanted) * len(pairs))
        labels = labels_of(subject, wanted[name])
        found[name].append(
            _pair_effects(subject, lease, pair, sets, labels=labels, heartbeat=heartbeat, keep=keep, share=share)
        )
    ours = found.pop("")
    return EffectCells(
        d_clean=np.array([pair.d_clean for pair in ours], dtype=np.float32),
        d_corrupt=np.array([pair.d_corrupt for pair in ours], dtype=np.float32),
        patched=np.stack([pair.patched for pair in ours]),
        readouts=_readouts(ours, found, lease.corruption) if keep else {},
    )


def joint_sets(plan: Plan, keys: Sequence[str]) -> list[tuple[Site, ...]]:
    """The leading sites two by two."""
    sites = {site.key: site for site in plan.sites}
    return list(site_pairs([sites[key] for key in keys]))


def _pair_effects(
    subject: Subject,
    lease: Lease,
    pair: EncodedPair,
    sets: Sequence[Sequence[Site]],
    *,
    labels: LabelTokens,
    heartbeat: Heartbeat,
    keep: bool,
    share: tuple[float, float],
) -> PairEffects:
    """``share`` is where in the shard's work the pair stands, and how much of it the pair is."""
    assert lease.direction is not None and lease.corruption is not None  # noqa: S101, PT018 - every such shard has both

    def progress(done: int, total: int, effect: float) -> None:
        heartbeat.progress(share[0] + share[1] * done / total, effect)

    others = [prompts_of(subject, other).corrupt for other in lease.partners.get(pair.id, ())]
    setting = setting_of(lease.plan, lease.direction, lease.corruption, all_readouts=keep)
    return trace_variant(
        subject,
        pair,
        sets,
        setting,
        labels=labels,
        others=others,
        progress=progress,
        should_stop=heartbeat.should_stop,
    )


KEPT = ("log_p_favorable", "log_p_unfavorable", "rank", "kl", "js")


def _readouts(
    ours: Sequence[PairEffects], answers: Mapping[str, Sequence[PairEffects]], corruption: Corruption | None
) -> dict[str, NDArray[np.float32]]:
    """Name → [pair, site + 2]; an ablation has no answers of its own that others could diverge from."""
    kept = KEPT[:3] if corruption in ABLATIONS else KEPT
    by_answer = {f"{ANSWER}{name}": _column(found, "log_p_favorable") for name, found in answers.items()}
    return {name: _column(ours, name) for name in kept} | by_answer


def _column(found: Sequence[PairEffects], name: str) -> NDArray[np.float32]:
    """[pair, site + 2] one readout of the patched runs, then of the clean and the corrupt one."""
    both = [np.concatenate([getattr(pair.readouts, name), getattr(pair.unpatched, name)]) for pair in found]
    return np.stack(both).astype(np.float32)
