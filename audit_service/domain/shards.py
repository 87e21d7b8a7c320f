"""A plan cut into shards: the same plan and pairs always give the same shards in the same order."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence

from audit_service.domain.pairs import Pair, PairKind, PairSet
from audit_service.domain.plan import Plan, Shard, ShardKind

PAIRS_PER_DECISION_SHARD = 256
"""Large, because prompts of one template share the computation of their common beginning."""


def shards(plan: Plan, pair_set: PairSet) -> tuple[Shard, ...]:
    """The first stage: decisions, so that the running disparity is seen early; then the effects, form by form.

    A plan with joint sites has a second stage, which follows from the first (domain.joint).
    """
    forms = [form.name for form in plan.behavior.forms]
    decisions = (shard for form in forms for shard in _decision_shards(plan, pair_set, form))
    effects = (shard for form in forms for shard in _effect_shards(plan, pair_set, form))
    return (*decisions, *effects)


def traced_pairs(plan: Plan, pair_set: PairSet, form: str) -> tuple[Pair, ...]:
    """The pairs of a form that are patched, contrast before placebo: drawn by the plan's seed, each cluster
    once before any twice, and as many cue pairs as possible. A plan that leaves some out names those that it drew.
    """
    pairs = [pair for pair in pair_set.pairs if pair.form == form]
    if plan.traced:
        of_form = {pair.id: pair for pair in pairs}
        return tuple(of_form[name] for name in plan.traced if name in of_form)
    contrast = [pair for pair in pairs if pair.kind is PairKind.CONTRAST]
    placebo = [pair for pair in pairs if pair.kind is PairKind.PLACEBO]
    tracing = plan.tracing
    return (
        *_spread(contrast, count=tracing.pairs_per_form, seed=tracing.seed),
        *_spread(placebo, count=tracing.placebo_pairs_per_form, seed=tracing.seed),
    )


PARTNERS = 4


def partners(plan: Plan, pair_set: PairSet, form: str) -> dict[str, tuple[Pair, ...]]:
    """Traced pair → the traced contrast pairs that follow it, from other clusters: what resampling and the mean take.

    At most ``PARTNERS``; the order is that of the plan's seed, and the first follows the last.
    """
    traced = traced_pairs(plan, pair_set, form)
    found = {}
    for at, pair in enumerate(traced):
        following = [*traced[at + 1 :], *traced[:at]]
        fit = [one for one in following if one.kind is PairKind.CONTRAST and one.cluster != pair.cluster]
        found[pair.id] = tuple(fit[:PARTNERS])
    return found


def _spread(pairs: Sequence[Pair], *, count: int, seed: int) -> list[Pair]:
    """``count`` pairs over as many clusters, and among these over as many cue pairs, as there are, in a random but
    fixed order.
    """
    drawn = sorted(pairs, key=lambda pair: pair.id)
    random.Random(seed).shuffle(drawn)  # noqa: S311 - a design, not a secret
    clusters: Counter[str] = Counter()
    cues: Counter[tuple[int, str, str]] = Counter()
    turns = {}
    for pair in drawn:
        turn = clusters[pair.cluster]
        same_cues = turn, pair.reference_cue, pair.comparison_cue
        turns[pair.id] = turn, cues[same_cues]
        clusters[pair.cluster] += 1
        cues[same_cues] += 1
    return sorted(drawn, key=lambda pair: turns[pair.id])[:count]


def _decision_shards(plan: Plan, pair_set: PairSet, form: str) -> Iterator[Shard]:
    ids = [pair.id for pair in pair_set.pairs if pair.form == form]
    for chunk in _chunks(ids, PAIRS_PER_DECISION_SHARD):
        yield Shard(plan_digest=plan.digest, kind=ShardKind.DECISIONS, form=form, direction=None, pair_ids=chunk)


def _effect_shards(plan: Plan, pair_set: PairSet, form: str) -> Iterator[Shard]:
    ids = [pair.id for pair in traced_pairs(plan, pair_set, form)]
    for chunk in _chunks(ids, plan.pairs_per_shard):
        for direction, corruption in plan.traces:
            yield Shard(
                plan_digest=plan.digest,
                kind=ShardKind.EFFECTS,
                form=form,
                direction=direction,
                corruption=corruption,
                pair_ids=chunk,
            )


def _chunks(ids: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(ids), size):
        yield tuple(ids[start : start + size])
