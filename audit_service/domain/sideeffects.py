"""What a measure did to those it was not meant for: the reference group's decisions, before and after (METHOD.md 8).

A gap also closes if the reference group is worse off; that is a side effect, not a success.
"""

from collections.abc import Iterator

import numpy as np

from audit_service.domain.cells import REFERENCE, DecisionTable
from audit_service.domain.contrasts import Contrast, contrasts, units
from audit_service.domain.drift import matched
from audit_service.domain.plan import Plan
from audit_service.domain.results import Result
from audit_service.domain.rows import row
from audit_service.domain.uncertainty import Resampled, Statistic, fewest_clusters, generator, most_cautious, sign_flip


def reference_changes(plan: Plan, *, before: DecisionTable, after: DecisionTable) -> tuple[Result, ...]:
    """After minus before, of each contrast's reference prompts: mean log-odds (nats) and share of approvals.

    With cluster-bootstrap intervals and sign-flip p over the pairs that both runs measured.
    """
    later = {contrast.key: contrast for contrast in contrasts(after, plan.behavior)}
    return tuple(
        result
        for contrast in contrasts(before, plan.behavior)
        if contrast.key in later
        for result in _changes(plan, contrast, later[contrast.key])
    )


def _changes(plan: Plan, before: Contrast, after: Contrast) -> Iterator[Result]:
    one, other = matched(before.table, after.table)
    was, now = (table.d[:, REFERENCE].astype(np.float64) for table in (one, other))
    cut, judging, key = plan.behavior.cut, plan.judging, f"{before.key}.reference"
    columns = {
        "n": np.ones(len(was)),
        "nats": now - was,
        "share": (now > cut).astype(np.float64) - (was > cut),
    }
    rng = generator(judging.seed, "side effects", before.key)
    kinds = units(one.pairs, alpha=judging.alpha)
    sample = Resampled.of(columns, kinds[0], rng=rng, resamples=judging.resamples)
    for name, result_key, unit in (("nats", f"{key}_change_nats", "nats"), ("share", f"{key}_rate_change", "share")):
        estimate = sample.estimate(_mean(name), alpha=judging.alpha, what="mean change, after minus before")
        p_value = None
        if sample.clusters >= fewest_clusters(judging.alpha):
            tests = [
                sign_flip(kind.sums(columns[name][:, None]), rng=rng, resamples=judging.resamples) for kind in kinds
            ]
            p_value = float(most_cautious(tests).raw[0])
        yield row(result_key, estimate, unit=unit, n=sample.clusters, p_value=p_value)


def _mean(name: str) -> Statistic:
    return lambda sums: sums[name] / sums["n"]
