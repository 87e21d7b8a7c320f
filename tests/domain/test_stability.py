import numpy as np
import pytest
from scipy import stats

from audit_service.domain.judgement import judge
from audit_service.domain.plan import Direction
from audit_service.domain.stability import (
    Halves,
    Spread,
    held_out,
    leading_count,
    overlap,
    rank_intervals,
    ranks,
    split_half,
)
from audit_service.domain.uncertainty import Array, generator
from tests.domain.made import PASSED, audit, decisions, effects, noisy

STRONG = np.zeros(40)
STRONG[:10] = np.linspace(2, 1, 10)


def cluster_sums(effects: Array, *, noise: float, clusters: int = 20) -> Array:
    return effects + np.random.default_rng(2).normal(0, noise, (clusters, len(effects)))


def halves(effects: Array, *, noise: float) -> Halves:
    return Halves.of(cluster_sums(effects, noise=noise), np.ones(20), rng=generator(1))


def test_the_largest_effect_of_either_sign_leads() -> None:
    np.testing.assert_array_equal(ranks(np.array([0.1, -3.0, 2.0, 0.1])), [3, 1, 2, 3])


def test_rank_intervals_are_the_quantiles_of_each_resamples_ranks() -> None:
    draws = np.random.default_rng(0).normal(np.arange(6), 1.0, (500, 6))
    low, high = rank_intervals(draws, alpha=0.1)
    slow = np.array([stats.rankdata(-np.abs(draw)) for draw in draws])
    np.testing.assert_array_equal(low, np.floor(np.quantile(slow, 0.05, axis=0)))
    np.testing.assert_array_equal(high, np.ceil(np.quantile(slow, 0.95, axis=0)))


def test_overlap_is_the_jaccard_index_of_the_leading_sites() -> None:
    rng = np.random.default_rng(0)
    effects, draws = STRONG, STRONG + rng.normal(0, 0.8, (300, 40))
    count = leading_count(40)

    def lead(values: Array) -> set[int]:
        return set(np.argsort(-np.abs(values), kind="stable")[:count].tolist())

    slow = [len(lead(effects) & lead(draw)) / len(lead(effects) | lead(draw)) for draw in draws]
    assert overlap(effects, draws).value == pytest.approx(np.mean(slow))
    assert overlap(effects, np.tile(effects, (10, 1))) == Spread(1, 1, 1)


def test_each_cluster_is_in_exactly_one_half() -> None:
    identity = np.eye(9)
    one, other = Halves.of(identity, np.ones(9), rng=generator(0))
    assert ((one > 0) ^ (other > 0)).all()
    assert ((one > 0).sum(axis=1) == 4).all()


def test_split_half_is_spearmans_correlation() -> None:
    both = halves(STRONG, noise=1.0)
    slow = [stats.spearmanr(one, other).statistic for one, other in zip(*both, strict=True)]
    assert split_half(both).value == pytest.approx(np.mean(slow))


def test_split_half_of_equal_sites_is_undefined() -> None:
    assert split_half(Halves(np.ones((5, 8)), np.ones((5, 8)))) is None


def test_sites_that_lead_by_chance_do_not_lead_in_the_other_half() -> None:
    control = held_out(halves(np.zeros(40), noise=1.0), rng=generator(0))
    assert control.beaten > 0.2
    assert abs(control.leading.value - control.random.value) < 0.1


def test_sites_that_lead_truly_lead_in_the_other_half_too() -> None:
    control = held_out(halves(STRONG, noise=0.5), rng=generator(0))
    assert control.beaten == 0
    assert control.leading.value == pytest.approx(STRONG[:10].mean(), abs=0.1)
    assert control.random.high < control.leading.low


def test_what_random_sites_reach_is_a_share_and_no_p_value() -> None:
    plan, pairs = audit(names=24)
    table = decisions(pairs.pairs, noisy(0.5))
    traced = effects(plan, table, Direction.DENOISE, shares={"attn_out.L2.cue": 0.8}, noise=0.01)
    rows = {row.key: row for row in judge(plan, table, [traced], [PASSED]).results}
    assert rows["raw.denoise.leading_held_out"].p_value is None
    share = rows["raw.denoise.random_sites_lead"]
    assert (share.unit, share.p_value) == ("share", None)
    assert 0 <= share.value < 0.5
