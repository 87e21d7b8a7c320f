import numpy as np
import pytest
from scipy import stats

from audit_service.domain.cells import DecisionTable, EffectTable
from audit_service.domain.contrasts import contrasts
from audit_service.domain.effect_rows import named_sites
from audit_service.domain.effects import SiteEffects, placebo_floor, site_effects
from audit_service.domain.plan import Direction, Plan
from audit_service.domain.uncertainty import Clusters, expanded_alpha, generator, sign_flip
from tests.domain.made import audit, decisions, effects, noisy

PLANTED = "attn_out.L2.cue"


def traced(direction: Direction = Direction.DENOISE, *, gap: float = 0.3, noise: float = 0.02) -> EffectTable:
    plan, table = world(gap)
    return effects(plan, table, direction, shares={PLANTED: 0.8, "mlp_out.L3.decision": -0.3}, noise=noise)


def world(gap: float) -> tuple[Plan, DecisionTable]:
    plan, pairs = audit()
    table = decisions(pairs.pairs, noisy(gap))
    [contrast] = contrasts(table, plan.behavior)
    return plan, contrast.table


def judged(table: EffectTable, *, alpha: float = 0.05, resamples: int = 4000) -> SiteEffects:
    return site_effects(table, alpha=alpha, resamples=resamples, seed=3)


def test_raw_and_normalised_effects_are_the_means_and_the_ratio_of_means() -> None:
    table = traced()
    ours = judged(table)
    effect = table.patched.astype(float) - table.d_corrupt[:, None]
    np.testing.assert_allclose(ours.raw.value, effect.mean(axis=0), rtol=1e-5, atol=1e-7)
    ratio = effect.sum(axis=0) / (table.d_clean.astype(float) - table.d_corrupt).sum()
    np.testing.assert_allclose(ours.normalised.value, ratio, rtol=1e-5, atol=1e-7)
    assert ours.total.value == pytest.approx((table.d_clean - table.d_corrupt).mean(), rel=1e-5)


def test_a_site_that_carries_a_share_has_that_normalised_effect_in_both_directions() -> None:
    for direction in Direction:
        ours = judged(traced(direction, noise=0.0))
        index = [site.key for site in ours.table.sites].index(PLANTED)
        assert ours.normalised.value[index] == pytest.approx(0.8, abs=1e-5)
        assert np.sign(ours.raw.value[index]) == (1 if direction is Direction.DENOISE else -1)


def test_the_interval_of_a_site_is_scipys_bootstrap_over_clusters() -> None:
    table = traced()
    ours = judged(table, resamples=20_000)
    index = [site.key for site in table.sites].index(PLANTED)
    labels = np.array([pair.cluster for pair in table.pairs])
    sums = np.array(
        [[x[labels == label].sum() for x in (table.effects[:, index], table.total)] for label in set(labels)]
    )
    theirs = stats.bootstrap(
        (sums[:, 0], sums[:, 1]),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        n_resamples=20_000,
        confidence_level=1 - expanded_alpha(0.05, len(sums)),
        rng=np.random.default_rng(1),
    ).confidence_interval
    bounds = ours.normalised.bounds
    assert (bounds.low[index], bounds.high[index]) == pytest.approx(theirs, abs=0.01)


def test_normalised_effects_are_refused_when_the_total_effect_may_be_zero() -> None:
    ours = judged(traced(gap=0.0))
    assert ours.total.low < 0 < ours.total.high
    assert ours.normalised is None
    assert ours.raw.bounds is not None


def test_only_the_sites_that_carry_something_are_named_largest_first() -> None:
    ours = judged(traced())
    assert [ours.table.sites[index].key for index in named_sites(ours, alpha=0.05)] == [PLANTED, "mlp_out.L3.decision"]


def test_few_clusters_give_values_but_no_intervals_and_no_names() -> None:
    table = traced()
    few = set(sorted({pair.cluster for pair in table.pairs})[:5])
    ours = judged(table.select(np.array([pair.cluster in few for pair in table.pairs])))
    assert ours.clusters == 5
    assert np.isfinite(ours.raw.value).all()
    assert ours.raw.bounds is None
    assert ours.test is None
    assert named_sites(ours, alpha=0.05) == []


def test_a_site_that_moves_every_cluster_equally_has_no_interval() -> None:
    table = traced(noise=0.0)
    ours = judged(table)
    still = [site.key for site in table.sites].index("attn_out.L0.cue")
    assert ours.raw.value[still] == 0
    assert np.isnan(ours.raw.bounds.low[still])
    assert ours.test.adjusted[still] == 1


def test_the_noise_floor_is_the_mean_effect_over_placebo_pairs_whatever_its_sign() -> None:
    table = traced()
    np.testing.assert_allclose(placebo_floor(table), np.abs(table.effects.mean(axis=0)), rtol=1e-4, atol=1e-6)


def test_the_same_seed_gives_the_same_numbers() -> None:
    first, again = judged(traced()), judged(traced())
    np.testing.assert_array_equal(first.raw.bounds.low, again.raw.bounds.low)
    np.testing.assert_array_equal(first.test.adjusted, again.test.adjusted)


def test_a_site_is_named_only_if_clusters_and_cue_pairs_both_show_it() -> None:
    table = traced()
    ours = judged(table)
    kinds = [[pair.cluster for pair in table.pairs], [pair.reference_cue for pair in table.pairs]]
    tests = []
    for labels in kinds:
        sums = Clusters.of(labels).sums(table.effects)
        tests.append(sign_flip(sums, rng=generator(0), resamples=4000).adjusted)
    np.testing.assert_allclose(ours.test.adjusted, np.maximum(*tests), atol=0.03)
