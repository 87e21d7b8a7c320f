"""What a plan will cost before anyone pays for it: forward passes, time and memory, as estimates."""

from collections.abc import Sequence

from pydantic import Field

from audit_service.domain.manifest import Frozen
from audit_service.domain.pairs import PairSet, Side
from audit_service.domain.plan import Plan, Shard, ShardKind

CHARACTERS_PER_TOKEN = 4
BYTES_PER_PARAMETER = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
WORKING_SHARE = 0.5
"""Activations and library overhead beside the weights, as a share of them."""
ASSUMED_FLOPS = 5e10
"""Per second; two processor cores in float32. A GPU is faster by two to four orders of magnitude."""


class Cost(Frozen):
    """Estimates; only ``forward_passes`` is exact."""

    shards: int
    forward_passes: int
    """Prompts run through the network, whole or from the patched layer on."""
    full_passes: float
    """The same in units of one whole pass: a pass resumed at layer k of n counts (n - k) / n."""
    seconds: float = Field(ge=0)
    """At ``assumed_flops`` per second."""
    assumed_flops: float
    memory_bytes: int
    """Of one worker."""


def estimate(plan: Plan, pair_set: PairSet, shards: Sequence[Shard]) -> Cost:
    """The cost of the shards. A parameter takes part in two operations per token."""
    texts = {pair.id: [pair.text(side) for side in Side] for pair in pair_set.pairs}
    prompts = len({(pair.form, text) for pair in pair_set.pairs for text in texts[pair.id]})
    traced = sum(len(shard.pair_ids) for shard in shards if shard.kind is ShardKind.EFFECTS)
    layers = plan.model.layers
    resumed = sum((layers - site.layer) / layers for site in plan.sites)
    full = prompts + traced * (2 + resumed)
    characters = sum(len(text) for both in texts.values() for text in both) / (2 * len(texts))
    flops_per_pass = 2 * plan.model.parameters * characters / CHARACTERS_PER_TOKEN
    weights = plan.model.parameters * BYTES_PER_PARAMETER.get(plan.model.dtype, 4)
    return Cost(
        shards=len(shards),
        forward_passes=prompts + traced * (2 + len(plan.sites)),
        full_passes=round(full, 1),
        seconds=round(full * flops_per_pass / ASSUMED_FLOPS, 1),
        assumed_flops=ASSUMED_FLOPS,
        memory_bytes=round(weights * (1 + WORKING_SHARE)),
    )
