"""The cells of a plan's pairs, measured: by workers shard by shard, and by auditors who repeat some of them."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from audit_service.domain.behaviors import Labels
from audit_service.domain.joint import site_pairs
from audit_service.domain.metrics import ANSWER, TOTAL
from audit_service.domain.pairs import Pair
from audit_service.domain.plan import ABLATIONS, Corruption, Direction, Plan
from audit_service.domain.sites import HEAD_KINDS, Site
from audit_service.domain.trace import DecisionCells, EffectCells
from audit_service.errors import InvalidTrace
from workers.engine.decisions import Decisions, measure_decisions
from workers.engine.patching import PairEffects
from workers.engine.placing import check, heads_of
from workers.engine.positions import Exchange
from workers.engine.subject import Subject
from workers.engine.tokens import EncodedPair, labels_of, prompts_of
from workers.engine.variants import Setting, trace_variant


class Watch(Protocol):
    """Who follows the work and may call it off."""

    def progress(self, share: float, running_effect: float | None) -> None:
        """Share of the work that is done, and the effect seen so far in nats."""

    def should_stop(self) -> bool: ...


class Unwatched:
    """Nobody follows."""

    def progress(self, share: float, running_effect: float | None) -> None: ...

    def should_stop(self) -> bool:
        return False


UNWATCHED = Unwatched()


def decision_cells(
    subject: Subject, plan: Plan, pairs: Sequence[EncodedPair], *, watch: Watch = UNWATCHED
) -> DecisionCells:
    """The decision values of both prompts of each pair, and what else the plan's metrics read of them.

    Raises InvalidPairs for a prompt that the model cannot take, Cancelled when asked to stop.
    """
    prompts = [ids for pair in pairs for ids in (pair.clean_ids, pair.corrupt_ids)]
    answers = _answers(plan)
    passes = 1 + len(answers)

    def measured(labels: Labels, *, number: int) -> Decisions:
        def progress(done: int, total: int, effect: float) -> None:  # noqa: ARG001 - a decision has no effect yet
            watch.progress((number + done / total) / passes, None)

        tokens = labels_of(subject, labels)
        return measure_decisions(subject, prompts, tokens, progress=progress, should_stop=watch.should_stop)

    found = measured(plan.behavior.labels, number=0)
    readouts = {"rank": found.rank.reshape(-1, 2)} if "rank" in plan.reads else {}
    readouts |= {TOTAL: found.log_total.reshape(-1, 2)} if plan.reads_logits else {}
    for number, (name, labels) in enumerate(answers.items(), start=1):
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


def effect_cells(
    subject: Subject,
    plan: Plan,
    pairs: Sequence[EncodedPair],
    sets: Sequence[Sequence[Site]],
    *,
    direction: Direction,
    corruption: Corruption,
    partners: Mapping[str, Sequence[Pair]],
    all_readouts: bool,
    watch: Watch = UNWATCHED,
) -> EffectCells:
    """The patched decision values of each pair, every set of sites exchanged at once.

    ``partners`` are the other pairs that a corruption takes activations from; ``all_readouts`` keeps what else is read
    in the same runs. Raises InvalidTrace for what the engine cannot honour, Cancelled when asked to stop.
    """
    answers = _answers(plan) if all_readouts else {}
    wanted = {name: labels_of(subject, labels) for name, labels in ({"": plan.behavior.labels} | answers).items()}
    setting = Setting(direction, corruption, plan.tracing, all_readouts)
    found: dict[str, list[PairEffects]] = {name: [] for name in wanted}
    whole = len(wanted) * len(pairs)
    for number, (name, pair) in enumerate(product(wanted, pairs)):

        def progress(done: int, total: int, effect: float, number: int = number) -> None:
            watch.progress((number + done / total) / whole, effect)

        traced = trace_variant(
            subject,
            pair,
            sets,
            setting,
            labels=wanted[name],
            others=[prompts_of(subject, other).corrupt for other in partners.get(pair.id, ())],
            progress=progress,
            should_stop=watch.should_stop,
        )
        found[name].append(traced)
    ours = found.pop("")
    return EffectCells(
        d_clean=np.array([pair.d_clean for pair in ours], dtype=np.float32),
        d_corrupt=np.array([pair.d_corrupt for pair in ours], dtype=np.float32),
        patched=np.stack([pair.patched for pair in ours]),
        readouts=_readouts(plan, ours, found, corruption) if all_readouts else {},
    )


def require_sites(subject: Subject, plan: Plan) -> None:
    """Raise InvalidTrace for a site that the model does not have, or has and the plan leaves out.

    Asked in the first shard, before the decisions even: a plan counts layers and heads as config.json does.
    """
    for site in plan.sites:
        for one in site.parts:
            check(subject.anatomy, Exchange(one.kind, one.layer, one.head, (0,), (0,)))
    anatomy, counted = subject.anatomy, plan.model
    pairs = {"layers": (counted.layers, anatomy.layers)} | {
        f"heads of {kind}": (counted.heads_of(kind), heads_of(anatomy, kind))
        for kind in plan.tracing.kinds
        if kind in HEAD_KINDS
    }
    if differing := [f"{told} {what}, not {found}" for what, (found, told) in pairs.items() if found != told]:
        raise InvalidTrace(
            f"the loaded model has other sites than its config.json says: {', '.join(differing)}",
            remedy="correct config.json and register the model as a new version, or leave out sites of single heads",
        )


def joint_sets(plan: Plan, keys: Sequence[str]) -> list[tuple[Site, ...]]:
    """The leading sites two by two."""
    sites = {site.key: site for site in plan.sites}
    return list(site_pairs([sites[key] for key in keys]))


KEPT = ("log_p_favorable", "log_p_unfavorable", "rank", "kl", "js")


def _readouts(
    plan: Plan, ours: Sequence[PairEffects], answers: Mapping[str, Sequence[PairEffects]], corruption: Corruption
) -> dict[str, NDArray[np.float32]]:
    """Name → [pair, site + 2]; an ablation has no answers of its own that others could diverge from."""
    kept = (*(KEPT[:3] if corruption in ABLATIONS else KEPT), *([TOTAL] if plan.reads_logits else []))
    by_answer = {f"{ANSWER}{name}": _column(found, "log_p_favorable") for name, found in answers.items()}
    return {name: _column(ours, name) for name in kept} | by_answer


def _column(found: Sequence[PairEffects], name: str) -> NDArray[np.float32]:
    """[pair, site + 2] one readout of the patched runs, then of the clean and the corrupt one."""
    both = [np.concatenate([getattr(pair.readouts, name), getattr(pair.unpatched, name)]) for pair in found]
    return np.stack(both).astype(np.float32)
