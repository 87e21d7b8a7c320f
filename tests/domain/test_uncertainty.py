import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.stats._resampling import BootstrapResult
from statsmodels.stats.multitest import multipletests

from audit_service.domain.uncertainty import (
    Array,
    Clusters,
    FlipTest,
    Resampled,
    bca_levels,
    benjamini_hochberg,
    expanded_alpha,
    fewest_clusters,
    generator,
    holm,
    intervals,
    most_cautious,
    resample,
    sign_flip,
)

LABELS = ["b", "a", "b", "c", "a", "b"]


def made(clusters: int = 20, columns: int = 3, seed: int = 1) -> Array:
    return np.random.default_rng(seed).gamma(2, 1, (clusters, columns)) - 1


def test_cluster_sums_are_those_of_a_loop() -> None:
    values = np.arange(12.0).reshape(6, 2)
    clusters = Clusters.of(LABELS)
    slow = [sum(values[i] for i in range(6) if LABELS[i] == label) for label in "abc"]
    np.testing.assert_array_equal(clusters.sums(values), slow)


def test_streams_of_different_purposes_differ_and_repeat() -> None:
    first, again, other = (generator(3, *names).random() for names in (("a", "b"), ("a", "b"), ("ab",)))
    assert first == again
    assert first != other


def test_resamples_are_sums_over_clusters_drawn_with_replacement() -> None:
    identity = np.eye(7)
    weights = resample(identity, rng=generator(0), resamples=5000)
    assert (weights.sum(axis=1) == 7).all()
    assert (weights == weights.round()).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.06)
    np.testing.assert_allclose(weights.var(axis=0), 6 / 7, atol=0.08)


def test_resamples_do_not_depend_on_how_they_are_cut_into_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = made()
    whole = resample(sums, rng=generator(4), resamples=1000)
    monkeypatch.setattr("audit_service.domain.uncertainty.CHUNK", 333)
    np.testing.assert_allclose(resample(sums, rng=generator(4), resamples=1000), whole, rtol=1e-12)


def test_bca_levels_give_the_interval_that_scipy_gives_from_the_same_resamples() -> None:
    data = made(columns=1)[:, 0]
    draws = resample(data[:, None], rng=generator(2), resamples=4000) / len(data)
    left_out = ((data.sum() - data) / (len(data) - 1))[:, None]
    levels = bca_levels(draws, np.array([data.mean()]), left_out, np.array([[0.025], [0.975]]))
    ours = np.quantile(draws[:, 0], levels[:, 0])
    kept = BootstrapResult(confidence_interval=None, bootstrap_distribution=draws[:, 0], standard_error=None)
    theirs = stats.bootstrap((data,), np.mean, n_resamples=0, bootstrap_result=kept, method="BCa")
    np.testing.assert_allclose(ours, theirs.confidence_interval, rtol=1e-9)


def test_intervals_of_many_columns_are_those_of_each_column() -> None:
    sums = made(columns=5)
    draws = resample(sums, rng=generator(1), resamples=2000) / 20
    left_out = (sums.sum(axis=0) - sums) / 19
    together = intervals(draws, sums.mean(axis=0), left_out, clusters=20, alpha=0.05)
    for column in range(5):
        one = slice(column, column + 1)
        alone = intervals(draws[:, one], sums.mean(axis=0)[one], left_out[:, one], clusters=20, alpha=0.05)
        assert (together.low[column], together.high[column]) == pytest.approx((alone.low[0], alone.high[0]))


def test_from_200_clusters_on_the_interval_is_the_expanded_percentile_interval() -> None:
    sums = made(clusters=250, columns=1)
    draws = resample(sums, rng=generator(1), resamples=2000)
    low, high = intervals(draws, sums.sum(axis=0), sums.sum(axis=0) - sums, clusters=250, alpha=0.05)
    nominal = expanded_alpha(0.05, 250)
    np.testing.assert_allclose([low[0], high[0]], np.quantile(draws[:, 0], [nominal / 2, 1 - nominal / 2]))


def test_the_expansion_makes_a_normal_interval_of_the_bootstrap_as_wide_as_students() -> None:
    clusters, spread = 12, 1.7
    plug_in = spread * np.sqrt((clusters - 1) / clusters) / np.sqrt(clusters)
    ours = stats.norm.isf(expanded_alpha(0.05, clusters) / 2) * plug_in
    student = stats.t.ppf(0.975, clusters - 1) * spread / np.sqrt(clusters)
    assert ours == pytest.approx(student)


def test_a_ratio_is_estimated_with_the_interval_of_scipys_bootstrap_over_clusters() -> None:
    data = made(clusters=30, columns=2, seed=5) + 3
    sample = Resampled.of(
        {"a": data[:, 0], "b": data[:, 1]},
        Clusters.of([str(i) for i in range(30)]),
        rng=generator(0),
        resamples=20_000,
    )
    ours = sample.estimate(lambda sums: sums["a"] / sums["b"], alpha=0.05, what="ratio")
    theirs = stats.bootstrap(
        (data[:, 0], data[:, 1]),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        confidence_level=1 - expanded_alpha(0.05, 30),
        rng=np.random.default_rng(8),
    ).confidence_interval
    assert ours.value == pytest.approx(data[:, 0].sum() / data[:, 1].sum())
    assert (ours.low, ours.high) == pytest.approx(theirs, abs=0.01)


def test_the_effective_number_of_clusters_is_that_of_equal_ones_and_less_of_unequal_ones() -> None:
    assert Clusters.of(list("aabbcc")).effective == pytest.approx(3)
    assert Clusters.of(list("aaaab")).effective == pytest.approx(25 / 17)


def test_the_jackknife_interval_of_a_mean_is_students() -> None:
    data = made(clusters=12, columns=1)[:, 0]
    columns, clusters = {"x": data, "n": np.ones(12)}, Clusters.of([str(i) for i in range(12)])
    sample = Resampled.of(columns, clusters, rng=generator(0), resamples=1000)
    ours = sample.jackknife(lambda sums: sums["x"] / sums["n"], alpha=0.05, what="mean")
    theirs = stats.ttest_1samp(data, 0).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_a_ratio_over_zero_is_undefined() -> None:
    sample = Resampled.of(
        {"a": np.ones(8), "b": np.zeros(8)}, Clusters.of(list("abcdefgh")), rng=generator(0), resamples=1000
    )
    estimate = sample.estimate(lambda sums: sums["a"] / sums["b"], alpha=0.05, what="ratio")
    assert (estimate.value, estimate.low, estimate.issue) == (None, None, "reason.undefined")


def test_a_ratio_that_some_resamples_lack_has_no_interval() -> None:
    b = np.zeros(8)
    b[:2] = 1
    sample = Resampled.of({"a": np.ones(8), "b": b}, Clusters.of(list("abcdefgh")), rng=generator(0), resamples=1000)
    estimate = sample.estimate(lambda sums: sums["a"] / sums["b"], alpha=0.05, what="ratio")
    assert (estimate.value, estimate.low, estimate.issue) == (4.0, None, "reason.unstable")


def test_too_few_clusters_have_no_interval() -> None:
    few = fewest_clusters(0.05) - 1
    sample = Resampled.of(
        {"n": np.arange(1.0, few + 1)}, Clusters.of([str(i) for i in range(few)]), rng=generator(0), resamples=1000
    )
    assert sample.estimate(lambda sums: sums["n"], alpha=0.05, what="sum").issue == "reason.too_few_clusters"


@pytest.mark.parametrize(("alpha", "clusters"), [(0.05, 6), (0.01, 8), (0.1, 5)])
def test_the_fewest_clusters_are_those_whose_smallest_possible_p_reaches_alpha(alpha: float, clusters: int) -> None:
    assert fewest_clusters(alpha) == clusters
    assert 2 ** (1 - clusters) <= alpha < 2 ** (2 - clusters)


def test_equal_clusters_are_no_ground_for_an_interval() -> None:
    sample = Resampled.of(
        {"n": np.ones(9), "x": np.full(9, 0.3)}, Clusters.of(list("abcdefghi")), rng=generator(0), resamples=1000
    )
    estimate = sample.estimate(lambda sums: sums["x"] / sums["n"], alpha=0.05, what="mean")
    assert (estimate.value, estimate.low, estimate.issue) == (pytest.approx(0.3), None, "reason.no_variation")


def brute_force_flips(sums: Array) -> tuple[Array, Array]:
    """Every sign pattern in turn: |t| of each column, computed as one would by hand."""
    every = np.array(list(itertools.product([1, -1], repeat=len(sums))))

    def t(flipped: Array) -> Array:
        return np.abs(flipped.mean(axis=0)) / np.maximum(flipped.std(axis=0, ddof=1), 1e-300)

    observed, flipped = t(sums), np.array([t(signs[:, None] * sums) for signs in every])
    raw = (flipped >= observed * (1 - 1e-6)).mean(axis=0)
    adjusted = (flipped.max(axis=1)[:, None] >= observed * (1 - 1e-6)).mean(axis=0)
    return raw, adjusted


def test_few_clusters_are_flipped_in_every_pattern() -> None:
    sums = made(clusters=9, columns=6) + np.linspace(0, 1, 6)
    test = sign_flip(sums, rng=generator(0), resamples=10_000)
    raw, adjusted = brute_force_flips(sums)
    assert test.exact
    np.testing.assert_allclose(test.raw, raw)
    np.testing.assert_allclose(test.adjusted, adjusted)


def test_the_exact_p_is_that_of_scipys_permutation_test() -> None:
    sums = made(clusters=10, columns=1)
    theirs = stats.permutation_test(
        (sums[:, 0],),
        lambda x, axis: np.abs(x.sum(axis)),
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert sign_flip(sums, rng=generator(0), resamples=1000).raw[0] == pytest.approx(theirs.pvalue)


def test_many_clusters_are_flipped_at_random_and_p_is_never_zero() -> None:
    sums = made(clusters=40, columns=2) + 5
    test = sign_flip(sums, rng=generator(0), resamples=999)
    assert not test.exact
    np.testing.assert_allclose(test.raw, 1 / 1000)


def test_random_flips_come_near_the_exact_p() -> None:
    sums = made(clusters=14, columns=4, seed=3) + 0.3
    exact = sign_flip(sums, rng=generator(0), resamples=2**13)
    sampled = sign_flip(sums, rng=generator(0), resamples=8000)
    assert exact.exact
    assert not sampled.exact
    np.testing.assert_allclose(sampled.raw, exact.raw, atol=0.02)
    np.testing.assert_allclose(sampled.adjusted, exact.adjusted, atol=0.02)


def test_a_column_of_zeros_is_never_significant() -> None:
    sums = np.column_stack([np.zeros(8), np.full(8, 0.3)])
    test = sign_flip(sums, rng=generator(0), resamples=1000)
    np.testing.assert_allclose(test.raw, [1, 2 / 2**8])


def test_the_more_cautious_test_counts_column_by_column() -> None:
    tests = [
        FlipTest(np.array([0.1, 0.2]), np.array([0.3, 0.2]), True),
        FlipTest(np.ones(2) / 5, np.ones(2) / 4, False),
    ]
    both = most_cautious(tests)
    np.testing.assert_array_equal(both.raw, [0.2, 0.2])
    np.testing.assert_array_equal(both.adjusted, [0.3, 0.25])
    assert not both.exact


def test_holm_is_that_of_statsmodels() -> None:
    p_values = np.random.default_rng(0).uniform(0, 0.2, 9)
    np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1])
    assert holm([]) == []


def test_benjamini_hochberg_is_that_of_statsmodels() -> None:
    p_values = np.random.default_rng(0).uniform(0, 0.2, 9)
    np.testing.assert_allclose(benjamini_hochberg(p_values), multipletests(p_values, method="fdr_bh")[1])
    assert len(benjamini_hochberg(np.zeros(0))) == 0


def test_tests_of_other_behaviors_count_in_the_family_as_if_they_came_last() -> None:
    p_values, elsewhere = [0.004, 0.03, 0.012], [0.2, 0.011, 0.9]
    whole = multipletests([*p_values, *elsewhere], method="holm")[1][:3]
    ours = holm(p_values, others=3)
    np.testing.assert_allclose(ours, multipletests([*p_values, 1, 1, 1], method="holm")[1][:3])
    assert (np.array(ours) >= whole - 1e-12).all()
