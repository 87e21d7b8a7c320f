import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from scipy.special import expit
from statsmodels.stats.weightstats import ttost_paired

from audit_service.domain.cells import DecisionTable
from audit_service.domain.contrasts import Contrast, columns, contrasts, placebo, units
from audit_service.domain.disparity import Assessment, ClusteredMean, assess, mean, selection_ratio, standardised
from audit_service.domain.judgement import judge
from audit_service.domain.pairs import PairKind
from audit_service.domain.plan import Unit
from audit_service.domain.uncertainty import Clusters, Resampled, generator
from audit_service.errors import InvalidInput
from tests.domain.made import METRICS, PASSED, audit, behavior, decisions, noisy


def measured(gap: float = 0.3, **options: int) -> DecisionTable:
    _, pairs = audit(**options)
    return decisions(pairs.pairs, noisy(gap, spread=0.4), base=noisy(0, spread=1, seed=9))


def only_contrast(table: DecisionTable) -> Contrast:
    [contrast] = contrasts(table, behavior())
    return contrast


def sample_of(table: DecisionTable) -> Resampled:
    contrast = only_contrast(table)
    return Resampled.of(columns(contrast.table, cut=0.0), contrast.clusters, rng=generator(0), resamples=2000)


def assessed(table: DecisionTable, **options: object) -> Assessment:
    plan, _ = audit()
    return assess(only_contrast(table), behavior=plan.behavior, judging=plan.judging, **options)


def test_every_number_of_a_pair_is_that_of_a_loop() -> None:
    table = measured()
    contrast = only_contrast(table)
    ours = sample_of(table)
    gaps, points, b, c, approved = [], [], 0, 0, [0, 0]
    for pair, (reference, comparison) in zip(table.pairs, table.d.astype(float), strict=True):
        if pair.kind is PairKind.PLACEBO:
            continue
        gaps.append(reference - comparison)
        points.append(100 / (1 + np.exp(-reference)) - 100 / (1 + np.exp(-comparison)))
        approved[0] += reference > 0
        approved[1] += comparison > 0
        b += reference > 0 >= comparison
        c += comparison > 0 >= reference
    n = len(gaps)
    expected = {
        mean("gap"): np.mean(gaps),
        mean("gap_pp"): np.mean(points),
        mean("gap_absolute"): np.mean(np.abs(gaps)),
        standardised: np.mean(gaps) / np.std(gaps, ddof=1),
        mean("reference"): approved[0] / n,
        selection_ratio: approved[1] / approved[0],
    }
    assert n == len(contrast.table.pairs)
    assert (ours.total("lost"), ours.total("gained")) == (b, c)
    assert b > c > 0
    for statistic, value in expected.items():
        assert ours.estimate(statistic, alpha=0.05, what="").value == pytest.approx(value)


def test_a_decision_at_the_cut_is_not_approved() -> None:
    _, pairs = audit()
    table = decisions(pairs.pairs, lambda _: 0.0, base=lambda _: 0.5)
    assert columns(table, cut=0.5)["reference"].sum() == 0
    assert columns(table, cut=0.49)["reference"].all()


def test_more_than_two_groups_are_contrasted_with_the_reference_each() -> None:
    _, pairs = audit(groups=("black", "asian"), forms=("raw", "chat"))
    table = decisions(pairs.pairs, lambda pair: 1.0 if pair.comparison_group == "asian" else 0.0)
    found = contrasts(table, behavior(groups=("black", "asian"), forms=("raw", "chat")))
    assert [one.key for one in found] == ["raw.race.black", "raw.race.asian", "chat.race.black", "chat.race.asian"]
    assert [float(columns(one.table, cut=0)["gap"].mean()) for one in found] == [0, 1, 0, 1]


def test_a_group_without_pairs_is_there_and_not_measured() -> None:
    _, pairs = audit()
    table = decisions(pairs.pairs, lambda _: 1.0)
    found = contrasts(table, behavior(groups=("black", "asian")))
    assert [len(one.asked.pairs) for one in found] == [48, 0]


def test_pairs_of_a_group_that_the_behavior_does_not_declare_are_judged_too() -> None:
    _, pairs = audit(groups=("black", "asian"))
    table = decisions(pairs.pairs, lambda _: 1.0)
    assert [one.group for one in contrasts(table, behavior())] == ["black", "asian"]


def test_placebo_pairs_are_kept_apart() -> None:
    table = measured()
    noise = placebo(table, behavior(), "raw")
    assert {pair.kind for pair in noise.pairs} == {PairKind.PLACEBO}
    assert len(noise.pairs) + len(only_contrast(table).table.pairs) == len(table.pairs)


def test_d_z_of_equal_gaps_is_undefined() -> None:
    _, pairs = audit()
    table = decisions(pairs.pairs, lambda _: 0.25)
    assert sample_of(table).estimate(standardised, alpha=0.05, what="").issue == "reason.undefined"


def test_the_clustered_standard_error_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 15, 90)
    values = rng.normal(0.3, 1, 90) + rng.normal(0, 1, 15)[codes]
    clusters = Clusters.of([str(code) for code in codes])
    ours = ClusteredMean.of(*clusters.sums(np.column_stack([values, np.ones(90)])).T)
    fit = sm.OLS(values, np.ones((90, 1))).fit(cov_type="cluster", cov_kwds={"groups": codes, "use_correction": True})
    assert ours.value == pytest.approx(fit.params[0])
    assert ours.error == pytest.approx(fit.bse[0])


@pytest.mark.parametrize("delta", [0.05, 0.2, 0.6])
def test_equivalence_of_single_pairs_is_the_paired_tost_of_statsmodels(delta: float) -> None:
    rng = np.random.default_rng(4)
    one, other = rng.normal(0.1, 0.5, 30), rng.normal(0, 0.5, 30)
    ours = ClusteredMean.of(one - other, np.ones(30))
    theirs, lower, upper = ttost_paired(one, other, -delta, delta)
    assert ours.equivalence_p(delta) == pytest.approx(theirs)
    assert theirs == max(lower[1], upper[1])


@pytest.mark.parametrize("delta", [0.05, 0.1, 0.15, 0.2, 0.3])
def test_equivalence_is_shown_exactly_when_the_double_alpha_interval_lies_within_the_margin(delta: float) -> None:
    sums = np.random.default_rng(4).normal(0.05, 0.2, 20)
    ours = ClusteredMean.of(sums, np.ones(20))
    low, high = ours.interval(0.1)
    assert (ours.equivalence_p(delta) < 0.05) == (-delta < low and high < delta)


def test_the_detectable_gap_is_2_8_standard_errors() -> None:
    ours = ClusteredMean.of(np.random.default_rng(4).normal(0, 1, 20), np.ones(20))
    assert ours.detectable(0.05) == pytest.approx(2.8 * ours.error)


def test_the_p_of_a_gap_is_the_exact_sign_flip_over_clusters() -> None:
    plan, pairs = audit(names=6)
    table = decisions(pairs.pairs, noisy(0.05))
    contrast = only_contrast(table)
    ours = assess(contrast, behavior=plan.behavior, judging=plan.judging)
    data = columns(contrast.table, cut=0)["gap"]
    labels = np.array([pair.cluster for pair in contrast.table.pairs])
    sums = np.array([data[labels == label].sum() for label in np.unique(labels)])
    theirs = stats.permutation_test(
        (sums,),
        lambda x, axis: np.abs(x.sum(axis)),
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert len(sums) == ours.clusters == 12
    assert ours.p_value == pytest.approx(theirs.pvalue)


def test_a_threshold_in_log_odds_is_read_in_the_unit_of_the_metric() -> None:
    table = measured()
    ours = assessed(table, metric=METRICS["probability"])
    p = expit(only_contrast(table).table.d.astype(float))
    assert ours.unit == "percentage points"
    assert ours.threshold == pytest.approx(100 * 0.2 * np.mean(p * (1 - p)))
    assert ours.delta == pytest.approx(ours.threshold / 2)


@pytest.mark.parametrize("name", ["log-odds", "probability", "log-probability"])
def test_the_slope_of_a_metric_is_its_change_per_nat(name: str) -> None:
    metric, step = METRICS[name], 1e-2
    _, pairs = audit()
    base = noisy(0, spread=1, seed=9)
    values = {pair.id: base(pair) for pair in pairs.pairs}
    lower, upper = (
        decisions(pairs.pairs, lambda _: 0.0, base=lambda pair, shift=shift: values[pair.id] + shift)
        for shift in (-step, step)
    )
    change = (metric.value(upper) - metric.value(lower)).mean() / (2 * step)
    middle = decisions(pairs.pairs, lambda _: 0.0, base=lambda pair: values[pair.id])
    assert metric.slope(middle) == pytest.approx(change, rel=1e-3)


def test_resampling_cue_pairs_takes_all_their_templates_together() -> None:
    ours = assessed(measured(), unit=Unit.CUES)
    assert ours.clusters == assessed(measured()).clusters / 2


@pytest.mark.parametrize(("names", "kinds"), [(12, [24, 12]), (6, [12, 6]), (4, [8])])
def test_cue_pairs_are_asked_too_where_templates_share_them_and_there_are_enough(names: int, kinds: list[int]) -> None:
    pairs = only_contrast(measured(names=names)).table.pairs
    assert [unit.count for unit in units(pairs, alpha=0.05)] == kinds


def test_cue_pairs_that_are_clusters_are_not_asked_twice() -> None:
    pairs = [pair for pair in only_contrast(measured()).table.pairs if pair.template == "form"]
    assert len(units(pairs, alpha=0.05)) == 1


def test_where_everybody_is_approved_the_judge_gives_the_ratio_of_rates_no_interval() -> None:
    plan, pairs = audit()
    judgement = judge(plan, decisions(pairs.pairs, noisy(0.1), base=lambda _: 9.0), [], [PASSED])
    [ratio] = [one for one in judgement.results if one.key == "raw.race.black.rate_ratio_independent"]
    assert (ratio.value, ratio.low, ratio.high, ratio.reason.id) == (1.0, None, None, "reason.no_variation")


def test_a_metric_without_a_threshold_on_the_prompts_is_not_judged_by_that_in_nats() -> None:
    """So far from the border that float64 knows no slope of the probability."""
    _, pairs = audit()
    table = decisions(pairs.pairs, noisy(0.5), base=lambda _: 800.0)
    with pytest.raises(InvalidInput, match="probability has no threshold in percentage points"):
        assessed(table, metric=METRICS["probability"])
