"""What a plan will cost before anyone pays for it: forward passes, time and memory, as estimates."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from os.path import commonprefix
from statistics import fmean

from pydantic import Field

from audit_service.domain.manifest import Frozen
from audit_service.domain.pairs import Pair, PairSet, Side
from audit_service.domain.plan import Plan, Shard, ShardKind
from audit_service.domain.sites import DECISION

CHARACTERS_PER_TOKEN = 4
BYTES_PER_PARAMETER = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
WORKING_SHARE = 0.5
"""Activations and library overhead beside the weights, as a share of them."""
ASSUMED_FLOPS = 5e10
"""Per second; two processor cores in float32. A GPU is faster by two to four orders of magnitude."""


class Cost(Frozen):
    """Estimates of a plan's first stage; only ``shards`` is exact. Two sites together come on top, by joint_sites."""

    shards: int
    forward_passes: int
    """Prompts run through the network, whole or from the patched activation on: each prompt, and for each traced pair,
    direction, corruption, draw and numeric answer both prompts and every site. Exact for pairs alone; the few
    recordings that other corruptions take besides are left out."""
    full_passes: float
    """The same in units of one whole pass: resumed at layer k of n and at a prompt's last tenth, one counts
    (n - k) / 10 n."""
    seconds: float = Field(ge=0)
    """At ``assumed_flops`` per second."""
    assumed_flops: float
    memory_bytes: int
    """Of one worker."""


def estimate(plan: Plan, pair_set: PairSet, shards: Sequence[Shard]) -> Cost:
    """The cost of the shards. A parameter takes part in two operations per token."""
    pairs = {pair.id: pair for pair in pair_set.pairs}
    prompts = {(pair.form, pair.text(side)) for pair in pair_set.pairs for side in Side}
    effects = [shard for shard in shards if shard.kind is ShardKind.EFFECTS]
    traced = [pairs[name] for shard in effects for name in shard.pair_ids for _ in range(_repeats(plan, shard))]
    full = _answers(plan) * _decided(prompts) + 2 * len(traced) + _resumed(plan, traced)
    tokens = fmean(len(text) for _, text in prompts) / CHARACTERS_PER_TOKEN
    weights = plan.model.parameters * BYTES_PER_PARAMETER.get(plan.model.dtype, 4)
    return Cost(
        shards=len(shards),
        forward_passes=_answers(plan) * len(prompts) + len(traced) * (2 + len(plan.sites)),
        full_passes=round(full, 1),
        seconds=round(full * 2 * plan.model.parameters * tokens / ASSUMED_FLOPS, 1),
        assumed_flops=ASSUMED_FLOPS,
        memory_bytes=round(weights * (1 + WORKING_SHARE)),
    )


def _answers(plan: Plan) -> int:
    """How often a prompt is read: for the labels, and for each numeric answer that a metric asks for."""
    return 1 + (len(plan.behavior.answers) if plan.reads_answers else 0)


def _repeats(plan: Plan, shard: Shard) -> int:
    """How often a shard traces each of its pairs."""
    return plan.tracing.draws(shard.corruption) * (_answers(plan) if plan.tracing.all_readouts else 1)


def _decided(prompts: Iterable[tuple[str, str]]) -> float:
    """Passes over all prompts in units of whole ones: what a prompt begins with like another is computed once."""
    texts = [text for _, text in sorted(prompts)]
    # Texts are no paths: character by character is what is meant.
    shared = sum(len(commonprefix(two)) / len(two[1]) for two in pairwise(texts))  # noqa: RUF071
    return len(texts) - shared


def _resumed(plan: Plan, traced: Sequence[Pair]) -> float:
    """Patched passes in units of whole ones: nothing before the patched layer and position is computed again."""
    layers = plan.model.layers
    depth = Counter[str]()
    for site in plan.sites:
        depth[site.segment] += layers - site.layer
    return sum(_share_after(pair, segment) * count / layers for pair in traced for segment, count in depth.items())


def _share_after(pair: Pair, segment: str) -> float:
    """Share of the prompt from the segment's beginning to its end; every position begins at the first cue."""
    texts = [part.reference for part in pair.segments]
    names = [part.name for part in pair.segments]
    first_cue = next(index for index, part in enumerate(pair.segments) if part.is_cue)
    whole = sum(map(len, texts))
    if segment == DECISION:
        return min(CHARACTERS_PER_TOKEN / whole, 1)
    start = names.index(segment) if segment in names else first_cue
    return sum(map(len, texts[max(start, first_cue) :])) / whole
