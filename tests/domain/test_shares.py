import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from audit_service.domain.shares import difference, katz, mcnemar, net_share, ratio_from_net, share
from audit_service.domain.uncertainty import Estimate

ONES = np.ones(40)
EVENTS = (np.arange(40) % 5 == 0).astype(float)


def test_the_share_of_independent_pairs_has_the_exact_binomial_interval() -> None:
    """The estimated variance takes one degree of freedom, so 40 pairs tell as much as 39."""
    ours = share(EVENTS, ONES, alpha=0.05, what="share")
    theirs = proportion_confint(0.2 * 39, 39, alpha=0.05, method="beta")
    assert ours.value == 0.2
    assert (ours.low, ours.high) == pytest.approx(theirs)


def test_pairs_that_repeat_their_cluster_tell_no_more_than_one_of_them() -> None:
    once = share(EVENTS, ONES, alpha=0.05, what="share")
    tripled = share(3 * EVENTS, 3 * ONES, alpha=0.05, what="share")
    assert tripled.value == once.value
    assert tripled.high - tripled.low == pytest.approx(once.high - once.low, rel=0.03)


@pytest.mark.parametrize(("events", "value"), [(0 * ONES, 0.0), (ONES, 1.0)])
def test_nobody_and_everybody_have_the_exact_bound_for_as_many_pairs_as_clusters(
    events: np.ndarray, value: float
) -> None:
    sizes = 3 * ONES
    ours = share(events * sizes, sizes, alpha=0.05, what="share")
    theirs = stats.binomtest(round(40 * value), 40).proportion_ci(0.95, method="exact")
    shrunk = (stats.t.ppf(0.975, 119) / stats.t.ppf(0.975, 39)) ** 2
    assert ours.value == value
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1 - shrunk)
    assert ours.high - ours.low > theirs.high - theirs.low


def test_net_flips_have_agresti_and_mins_interval() -> None:
    """Half an event in each cell of the table, here for the 39 pairs that 40 tell as much as."""
    lost, gained = np.zeros(40), np.zeros(40)
    lost[:8], gained[8:11] = 1, 1
    ours = net_share(lost, gained, ONES, alpha=0.05, what="net")
    b, c, n = 8 * 39 / 40 + 0.5, 3 * 39 / 40 + 0.5, 39 + 2
    reach = stats.t.ppf(0.975, 39) * np.sqrt((b + c) - (b - c) ** 2 / n) / n
    assert ours.value == pytest.approx(5 / 40)
    assert (ours.low, ours.high) == pytest.approx(((b - c) / n - reach, (b - c) / n + reach))


def test_no_flips_bound_the_net_share_on_both_sides() -> None:
    ours = net_share(0 * ONES, 0 * ONES, ONES, alpha=0.05, what="net")
    assert ours.value == 0
    assert -ours.low == ours.high == pytest.approx(stats.t.ppf(0.975, 39) / 42)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_flips_in_every_pair_stay_within_the_possible(side: float) -> None:
    ours = net_share(ONES * (side > 0), ONES * (side < 0), ONES, alpha=0.05, what="net")
    assert ours.value == side
    assert -1 <= ours.low < ours.high <= 1


@pytest.mark.parametrize("clusters", [1, 5])
def test_shares_of_few_clusters_have_no_interval(clusters: int) -> None:
    few = np.ones(clusters)
    for ours in (share(few, few, alpha=0.05, what=""), net_share(few, 0 * few, few, alpha=0.05, what="")):
        assert (ours.value, ours.low, ours.issue) == (1.0, None, "reason.too_few_clusters")


def test_shares_of_nothing_are_not_measured() -> None:
    none = np.zeros(0)
    assert share(none, none, alpha=0.05, what="").issue == "reason.not_measured"
    assert net_share(none, none, none, alpha=0.05, what="").issue == "reason.not_measured"


def test_a_difference_of_shares_adds_the_squares_of_the_reaches() -> None:
    one, other = Estimate(0.5, 0.4, 0.7, ""), Estimate(0.2, 0.1, 0.25, "")
    ours = difference(one, other, what="")
    assert ours.value == pytest.approx(0.3)
    assert ours.low == pytest.approx(0.3 - np.hypot(0.1, 0.05))
    assert ours.high == pytest.approx(0.3 + np.hypot(0.2, 0.1))


def test_a_difference_of_wilson_shares_is_newcombes_interval_of_statsmodels() -> None:
    one, other = (proportion_confint(k, n, method="wilson") for k, n in ((30, 80), (12, 60)))
    ours = difference(Estimate(30 / 80, *one, ""), Estimate(12 / 60, *other, ""), what="")
    theirs = confint_proportions_2indep(30, 80, 12, 60, compare="diff", method="newcomb")
    assert (ours.low, ours.high) == pytest.approx(theirs)


def test_a_difference_to_something_unknown_is_unknown() -> None:
    known, unknown = Estimate(0.5, 0.4, 0.7, ""), Estimate(None, None, None, "", "reason.not_measured")
    wide = Estimate(0.5, None, None, "", "reason.too_few_clusters")
    assert difference(known, unknown, what="").value is None
    assert difference(known, wide, what="").issue == "reason.too_few_clusters"


def test_the_ratio_with_few_flips_has_the_bounds_of_the_net_share() -> None:
    ours = ratio_from_net(Estimate(0.9, None, None, ""), Estimate(0.05, -0.01, 0.11, "net"), 0.5)
    assert (ours.value, ours.low, ours.high) == pytest.approx((0.9, 0.78, 1.02))


@pytest.mark.parametrize(("b", "c"), [(7, 1), (0, 5), (12, 12), (3, 0)])
def test_mcnemar_is_that_of_statsmodels(b: int, c: int) -> None:
    theirs = statsmodels_mcnemar([[10, b], [c, 10]], exact=True).pvalue
    assert mcnemar(b, c) == pytest.approx(theirs)


def test_mcnemar_without_discordant_pairs_is_one() -> None:
    assert mcnemar(0, 0) == 1.0


def test_the_interval_of_independent_rates_is_that_of_statsmodels() -> None:
    ours = katz((60, 41), (100, 90), alpha=0.05)
    theirs = confint_proportions_2indep(41, 90, 60, 100, compare="ratio", method="log", correction=False)
    assert ours.value == pytest.approx((41 / 90) / (60 / 100))
    assert (ours.low, ours.high) == pytest.approx(theirs)


def test_katzs_interval_is_that_of_his_formula() -> None:
    """log ratio ± z sqrt(1/a - 1/n + 1/b - 1/m)."""
    ours = katz((15, 6), (40, 50), alpha=0.05)
    reach = stats.norm.ppf(0.975) * np.sqrt(1 / 15 - 1 / 40 + 1 / 6 - 1 / 50)
    ratio = (6 / 50) / (15 / 40)
    assert (ours.low, ours.high) == pytest.approx((ratio * np.exp(-reach), ratio * np.exp(reach)))


def test_a_ratio_over_no_approvals_stays_undefined() -> None:
    assert katz((0, 5), (10, 10), alpha=0.05).value is None
    nobody = katz((5, 0), (10, 10), alpha=0.05)
    assert (nobody.value, nobody.low, nobody.issue) == (0.0, None, "reason.undefined")


def test_a_ratio_where_everybody_is_approved_has_no_interval() -> None:
    everybody = katz((30, 30), (30, 30), alpha=0.05)
    assert (everybody.value, everybody.low, everybody.high) == (1.0, None, None)
    assert everybody.issue == "reason.no_variation"
    nearly = katz((30, 29), (30, 30), alpha=0.05)
    assert nearly.low < 29 / 30 < nearly.high
