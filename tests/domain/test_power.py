import numpy as np
import pytest
from scipy import stats

from audit_service.domain.plan import Pilot
from audit_service.domain.power import detectable, in_words, required_clusters, spread_of
from audit_service.domain.sentences import english
from audit_service.domain.uncertainty import fewest_clusters
from tests.domain.made import audit


def achieved(effect: float, spread: float, clusters: int, alpha: float) -> float:
    """Power of the t test by the non-central t distribution."""
    critical, shift = stats.t.isf(alpha / 2, clusters - 1), effect / spread * np.sqrt(clusters)
    rejects = stats.nct(clusters - 1, shift)
    return float(rejects.sf(critical) + rejects.cdf(-critical))


@pytest.mark.parametrize("clusters", [6, 12, 36, 200, 3000])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_detectable_gap_has_the_wanted_power(clusters: int, alpha: float) -> None:
    effect = detectable(0.3, clusters=clusters, alpha=alpha)
    assert achieved(effect, 0.3, clusters, alpha) == pytest.approx(0.8, abs=1e-4)


def test_with_many_clusters_it_is_the_2_8_standard_errors_of_the_method() -> None:
    assert detectable(0.3, clusters=5000) == pytest.approx(2.8 * 0.3 / np.sqrt(5000), rel=0.002)


@pytest.mark.parametrize("effect", [0.02, 0.1, 0.2, 0.25])
def test_the_required_clusters_are_the_smallest_number_with_the_wanted_power(effect: float) -> None:
    clusters = required_clusters(0.3, effect=effect)
    assert achieved(effect, 0.3, clusters, 0.05) >= 0.8 - 1e-6
    assert achieved(effect, 0.3, clusters - 1, 0.05) < 0.8


@pytest.mark.parametrize("effect", [0.0299, 0.01, 1e-3, 1e-6])
def test_the_smallest_gaps_take_what_the_normal_distribution_says(effect: float) -> None:
    share = np.sqrt(required_clusters(3.0, effect=effect)) * effect / 3.0
    assert share == pytest.approx(stats.norm.isf(0.025) + stats.norm.ppf(0.8), rel=1e-4)


@pytest.mark.parametrize(("spread", "effect"), [(0.3, 1e-320), (1e308, 0.1), (1e308, 1e-308)])
def test_a_gap_that_no_design_detects_takes_a_number_that_nobody_has(spread: float, effect: float) -> None:
    assert required_clusters(spread, effect=effect) > 10**18


@pytest.mark.parametrize(("spread", "effect"), [(0.3, 5.0), (0.3, 100.0), (0.0, 0.1)])
def test_never_fewer_clusters_are_asked_for_than_a_conclusion_takes(spread: float, effect: float) -> None:
    assert required_clusters(spread, effect=effect) == fewest_clusters(0.05)


def said(**options: object) -> list[str]:
    plan, pairs = audit(**options)
    return [english(one) for one in in_words(plan.behavior, plan.judging, pairs.pairs)]


def test_the_design_is_put_in_words_by_the_names_that_it_has() -> None:
    plan, pairs = audit(names=36)
    judging = plan.judging.model_copy(
        update={"pilot": Pilot(spread_nats=0.3, source="pilot of May"), "delta_nats": 0.05}
    )
    source, now, more = (english(one) for one in in_words(plan.behavior, judging, pairs.pairs))
    effect, needed = detectable(0.3, clusters=36), required_clusters(0.3, effect=0.05)
    assert source.endswith("vary by 0.3 nats (standard deviation): pilot of May.")
    assert now == (
        f"black: with these 72 names (36 independent cue pairs) a gap of {effect:.2g} nats can be detected "
        "(alpha 0.05 divided by the number of comparisons, 1; power 80%)."
    )
    assert more == f"black: for 0.05 nats take {2 * needed} names."


def test_without_a_pilot_the_spread_is_assumed_and_said_so() -> None:
    assert "assumed to vary by 0.2 nats" in said()[0]


def test_a_design_that_suffices_asks_for_nothing_more() -> None:
    plan, pairs = audit(names=36)
    judging = plan.judging.model_copy(update={"pilot": Pilot(spread_nats=0.1, source="pilot")})
    found = [one.id for one in in_words(plan.behavior, judging, pairs.pairs)]
    assert found == ["power.declared", "power.now"]


def test_a_design_that_can_conclude_nothing_says_so() -> None:
    assert said(names=2)[1] == "black: there are 4 independent clusters; below 6 no gap can be detected."
    assert in_words(audit()[0].behavior, audit()[0].judging, ()) == ()


def test_each_comparison_group_is_told_once_whatever_the_forms() -> None:
    found = said(names=12, groups=("black", "asian"), forms=("raw", "chat"))
    assert [line.partition(":")[0] for line in found[1:]] == ["asian", "asian", "black", "black"]


def test_more_forms_and_groups_take_a_larger_gap_for_alpha_is_shared_among_them() -> None:
    plan, pairs = audit(names=36, groups=("black", "asian"), forms=("raw", "chat"))
    judging = plan.judging.model_copy(update={"pilot": Pilot(spread_nats=0.3, source="pilot"), "delta_nats": 0.05})
    said = in_words(plan.behavior, judging, pairs.pairs)
    now = [one for one in said if one.id == "power.now"]
    assert len(now) == 2
    for one in now:
        assert one.values["comparisons"] == 4
        assert achieved(one.values["effect"], 0.3, 36, 0.05 / 4) == pytest.approx(0.8, abs=1e-4)
    needed = required_clusters(0.3, effect=0.05, alpha=0.05 / 4)
    assert [one.values["names"] for one in said if one.id == "power.more"] == [2 * needed] * 2


def test_comparisons_of_other_behaviors_share_alpha_too() -> None:
    plan, pairs = audit(names=36)
    pilot = Pilot(spread_nats=0.3, source="pilot")
    judging = plan.judging.model_copy(update={"pilot": pilot, "comparisons_elsewhere": 3})
    [now] = [one for one in in_words(plan.behavior, judging, pairs.pairs) if one.id == "power.now"]
    assert now.values["comparisons"] == 4
    assert achieved(now.values["effect"], 0.3, 36, 0.05 / 4) == pytest.approx(0.8, abs=1e-4)


def test_a_declared_pilot_counts_before_a_preview_and_a_preview_before_an_assumption() -> None:
    plan, _ = audit()
    declared = plan.judging.model_copy(update={"pilot": Pilot(spread_nats=0.3, source="pilot")})
    found = [
        spread_of(plan.behavior, judging, previewed=previewed)
        for judging, previewed in ((declared, 0.4), (plan.judging, 0.4), (plan.judging, None))
    ]
    assert [(one.nats, one.source.id, one.known) for one in found] == [
        (0.3, "power.declared", True),
        (0.4, "power.previewed", True),
        (0.2, "power.assumed", False),
    ]
