"""How long judging a large run takes, and how much memory: python -m tests.benchmarks.judge_speed [--clusters N]

10,000 pairs x 2,000 sites with 10,000 resamples, one form and direction: everything that a run's judgement holds.
"""

import argparse
import resource
import sys
import time

import numpy as np

from audit_service.domain.behaviors import FormKind
from audit_service.domain.cells import DecisionTable, EffectTable
from audit_service.domain.judgement import judge
from audit_service.domain.pairs import Pair, PairKind, Segment
from audit_service.domain.plan import Direction, Judging, Plan
from audit_service.domain.sites import site_grid
from tests.domain.made import PASSED, TRACING, audit

PAIRS, LAYERS = 10_000, 334
"""334 layers x 2 kinds x 3 segments = 2,004 sites."""


def pair(index: int, clusters: int) -> Pair:
    cluster = index % clusters
    return Pair(
        id=str(index),
        kind=PairKind.CONTRAST,
        form="raw",
        form_kind=FormKind.TEXT,
        attribute="race",
        reference_group="white",
        comparison_group="black",
        template=f"template {cluster % 20}",
        profile=f"profile {index // clusters}",
        reference_cue=f"white {cluster // 20}",
        comparison_cue=f"black {cluster // 20}",
        cluster=f"cluster {cluster}",
        segments=(Segment(name="cue", reference="A", comparison="B"),),
    )


def run(clusters: int) -> tuple[Plan, DecisionTable, EffectTable]:
    rng = np.random.default_rng(0)
    small, _ = audit()
    plan = small.model_copy(
        update={
            "model": small.model.model_copy(update={"layers": LAYERS}),
            "judging": Judging(delta_nats=0.1, resamples=10_000, seed=1),
        }
    )
    sites = site_grid(TRACING.kinds, layers=LAYERS, heads=2, segments=TRACING.segments)
    pairs = tuple(pair(index, clusters) for index in range(PAIRS))
    gap = 0.3 + rng.normal(0, 0.1, clusters)[np.arange(PAIRS) % clusters] + rng.normal(0, 0.1, PAIRS)
    middle = rng.normal(0, 1, PAIRS)
    d = np.column_stack([middle + gap / 2, middle - gap / 2]).astype(np.float32)
    favorable, unfavorable = (np.log(0.9) - np.logaddexp(0, sign * d) for sign in (-1, 1))
    decisions = DecisionTable(pairs, d, favorable.astype(np.float32), unfavorable.astype(np.float32))
    carried = np.zeros(len(sites), np.float32)
    carried[::97] = 0.3
    moved = carried * gap[:, None].astype(np.float32) + rng.normal(0, 0.05, (PAIRS, len(sites))).astype(np.float32)
    traced = EffectTable("raw", Direction.DENOISE, pairs, sites, d[:, 0], d[:, 1], d[:, 1:] + moved)
    return plan, decisions, traced


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clusters", type=int, default=PAIRS // 3)
    plan, decisions, traced = run(parser.parse_args().clusters)
    started = time.perf_counter()
    judgement = judge(plan, decisions, [traced], [PASSED])
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    named = next(row.value for row in judgement.results if row.key == "raw.denoise.named_sites")
    size = f"{PAIRS} pairs x {len(traced.sites)} sites, {plan.judging.resamples} resamples"
    sys.stdout.write(f"{size}: {seconds:.1f} s, {peak:.2f} GiB\n")
    sys.stdout.write(f"verdict {judgement.verdict.value}, {len(judgement.results)} results, {named:g} sites named\n")


if __name__ == "__main__":
    main()
