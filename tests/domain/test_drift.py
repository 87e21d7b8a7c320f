from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from audit_service.domain.cells import DecisionTable
from audit_service.domain.drift import Change, Drift, Run, compare
from audit_service.domain.pairs import Pair
from audit_service.domain.plan import Direction, Plan
from audit_service.domain.sentences import english
from tests.domain.made import audit, decisions, effects, noisy

PLAN, PAIRS = audit(names=24)
SITE, OTHER = "attn_out.L2.cue", "mlp_out.L1.cue"


def run(
    gap: Callable[[Pair], float], *, shares: dict[str, float] | None = None, plan: Plan = PLAN, seed: int = 5
) -> Run:
    table = decisions(PAIRS.pairs, gap)
    traced = [effects(plan, table, way, shares=shares or {SITE: 0.8}, noise=0.01, seed=seed) for way in Direction]
    return Run(table, traced)


def with_noise(gap: float, *, seed: int) -> Callable[[Pair], float]:
    """The same clusters as ever, with new noise within them."""
    shared, own = noisy(gap), np.random.default_rng(seed)
    return lambda pair: shared(pair) + own.normal(0, 0.02)


def drifted(accepted: Run, new: Run, plan: Plan = PLAN) -> Drift:
    return compare(plan, accepted=accepted, new=new)


def said(drift: Drift) -> str:
    return " ".join(english(one) for one in drift.statements)


def values(drift: Drift) -> dict[str, float | None]:
    return {row.key: row.value for row in drift.results}


def test_the_same_run_again_is_the_same() -> None:
    drift = drifted(run(noisy(0.4)), run(noisy(0.4)))
    assert drift.output is Change.SAME
    assert drift.mechanism is Change.UNDECIDED
    assert values(drift)["drift.raw.race.black.gap_change_nats"] == 0
    assert values(drift)["drift.raw.denoise.rank_correlation"] == pytest.approx(1)
    assert values(drift)["drift.raw.denoise.topk_jaccard"] == 1


def test_a_grown_gap_is_a_change_with_its_size() -> None:
    drift = drifted(run(with_noise(0.2, seed=1)), run(with_noise(0.5, seed=2)))
    assert drift.output is Change.CHANGED
    change = next(row for row in drift.results if row.key.endswith("gap_change_nats"))
    assert change.low < 0.3 < change.high
    assert "the gap changed by +0.3" in said(drift)


def test_what_both_versions_share_cancels() -> None:
    drift = drifted(run(with_noise(0.2, seed=1)), run(with_noise(0.21, seed=2)))
    change = next(row for row in drift.results if row.key.endswith("gap_change_nats"))
    assert change.high - change.low < 0.02
    assert drift.output is Change.SAME


def test_equivalence_to_the_accepted_version_is_the_paired_tost() -> None:
    one, other = run(with_noise(0.2, seed=1)), run(with_noise(0.25, seed=2))
    drift = drifted(one, other)
    row = next(row for row in drift.results if row.key.endswith("equivalence_nats"))
    contrast = np.array([pair.reference_group != pair.comparison_group for pair in PAIRS.pairs])
    gaps = [(x.decisions.d[:, 0].astype(float) - x.decisions.d[:, 1])[contrast] for x in (other, one)]
    found = []
    for label in (lambda pair: pair.cluster, lambda pair: pair.reference_cue):
        labels = np.array([label(pair) for pair in PAIRS.pairs])[contrast]
        means = [np.array([gap[labels == one].mean() for one in np.unique(labels)]) for gap in gaps]
        found.append(ttost_paired(*means, -0.1, 0.1)[0])
    assert row.p_value == pytest.approx(max(found))


def test_the_same_output_by_another_mechanism_is_said() -> None:
    drift = drifted(run(with_noise(0.4, seed=1)), run(with_noise(0.4, seed=2), shares={OTHER: 0.8}))
    assert (drift.output, drift.mechanism) == (Change.SAME, Change.CHANGED)
    assert "the same output with another mechanism" in said(drift)
    assert values(drift)["drift.raw.denoise.changed_sites"] == 2


def test_changes_of_sites_are_the_differences_of_their_mean_effects() -> None:
    one, other = run(noisy(0.4)), run(noisy(0.5), seed=8)
    found = values(drifted(one, other))
    contrast = np.array([pair.reference_group != pair.comparison_group for pair in PAIRS.pairs])
    before, after = (x.effects[0].effects[contrast].astype(float).mean(axis=0) for x in (one, other))
    for index, site in enumerate(PLAN.sites):
        assert found[f"drift.raw.denoise.{site.key}.change"] == pytest.approx(after[index] - before[index], abs=1e-6)
    expected = stats.spearmanr(before, after).statistic
    assert found["drift.raw.denoise.rank_correlation"] == pytest.approx(expected)


def test_a_small_change_amid_noise_is_undecided_not_the_same() -> None:
    drift = drifted(run(noisy(0.2, spread=0.6)), run(noisy(0.25, spread=0.6, seed=9)))
    assert drift.output is Change.UNDECIDED


def test_only_pairs_that_both_runs_measured_are_compared_whatever_their_order() -> None:
    one, other = run(noisy(0.4)), run(noisy(0.4))
    order = np.random.default_rng(0).permutation(len(PAIRS.pairs))[10:]
    cut = Run(other.decisions.take(order), [table.take(order) for table in other.effects])
    drift = drifted(one, cut)
    assert drift.output is Change.SAME
    assert values(drift)["drift.raw.race.black.gap_change_nats"] == 0
    assert values(drift)["drift.raw.noise.changed_sites"] == 0


def test_nothing_measured_in_common_is_not_measured() -> None:
    one, other = run(noisy(0.4)), run(noisy(0.4))
    other.decisions.d[:] = np.nan
    drift = drifted(one, other)
    assert (drift.output, drift.mechanism) == (Change.NOT_MEASURED, Change.NOT_MEASURED)
    assert "no pair was measured in both runs" in said(drift)


def test_versions_with_other_sites_cannot_be_compared() -> None:
    model = PLAN.model.model_copy(update={"layers": 6})
    deeper = Plan(**({name: getattr(PLAN, name) for name in Plan.model_fields} | {"model": model}))
    drift = drifted(run(noisy(0.4)), run(noisy(0.4), plan=deeper))
    assert drift.output is Change.SAME
    assert drift.mechanism is Change.NOT_MEASURED
    assert "different sites" in said(drift)


def test_runs_without_anything_are_not_measured() -> None:
    empty = DecisionTable.of((), [])
    drift = compare(PLAN, accepted=Run(empty, []), new=Run(empty, []))
    assert (drift.output, drift.mechanism) == (Change.NOT_MEASURED, Change.NOT_MEASURED)
