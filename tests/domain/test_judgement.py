from collections.abc import Callable, Sequence

import numpy as np
import pytest

from audit_service.domain.cells import DecisionTable
from audit_service.domain.judgement import judge
from audit_service.domain.pairs import Pair, PairKind
from audit_service.domain.plan import Direction
from audit_service.domain.results import Judgement, Outcome, Result, VerdictValue
from audit_service.domain.sentences import english
from audit_service.domain.trace import Control
from audit_service.errors import ControlFailed
from tests.domain.made import PASSED, audit, decisions, effects, noisy

PLANTED = "attn_out.L2.cue"


def judged(
    gap: Callable[[Pair], float],
    *,
    base: Callable[[Pair], float] = lambda _: 0.0,
    share: float = 0.9,
    broken: Sequence[int] = (),
    **options: object,
) -> Judgement:
    plan, pairs = audit(**options)
    table = decisions(pairs.pairs, gap, base=base, share=share)
    table.d[list(broken), 0] = np.nan

    traced = [effects(plan, part, direction, shares={PLANTED: 0.9}, noise=0.01) for part, direction in ways(table)]
    return judge(plan, table, traced, [PASSED])


def ways(table: DecisionTable) -> list[tuple[DecisionTable, Direction]]:
    """Each form in both directions."""
    forms = dict.fromkeys(pair.form for pair in table.pairs)
    parts = [table.select(np.array([pair.form == form for pair in table.pairs])) for form in forms]
    return [(part, direction) for part in parts for direction in Direction]


def results(judgement: Judgement) -> dict[str, Result]:
    return {result.key: result for result in judgement.results}


def said(judgement: Judgement) -> str:
    return " ".join(english(sentence) for sentence in (*judgement.statements, *judgement.forms[0].reasons))


def test_a_material_gap_fails_and_its_site_is_named_in_both_directions() -> None:
    judgement = judged(noisy(0.4))
    assert judgement.verdict.value is VerdictValue.FAIL
    named = [one.values for one in judgement.statements if one.id == "effects.named"]
    assert [(one["direction"], one["named"], one["site"]) for one in named] == [
        ("denoise", 1, PLANTED),
        ("noise", 1, PLANTED),
    ]


def test_no_gap_passes_as_equivalent() -> None:
    judgement = judged(noisy(0.0, spread=0.05))
    assert judgement.verdict.value is VerdictValue.PASS
    assert results(judgement)["raw.race.black.equivalence_nats"].p_value < 0.05


def test_a_significant_but_irrelevant_gap_passes_and_says_so() -> None:
    judgement = judged(noisy(0.05, spread=0.02), base=lambda _: 1.0)
    assert results(judgement)["raw.race.black.gap_nats"].p_value < 0.001
    assert judgement.verdict.value is VerdictValue.PASS
    assert "statistically significant, practically irrelevant" in said(judgement)


def test_a_small_gap_that_flips_decisions_to_one_side_is_a_concern() -> None:
    judgement = judged(noisy(0.05, spread=0.02), base=lambda _: 0.0)
    assert judgement.verdict.value is VerdictValue.CONCERN
    assert "decisions flip more often in one direction" in said(judgement)


def test_a_wide_interval_is_inconclusive_not_a_pass() -> None:
    judgement = judged(noisy(0.0, spread=1.5))
    assert judgement.verdict.value is VerdictValue.INCONCLUSIVE
    assert "P017" in {finding.rule for finding in judgement.protocol}


def protocol(judgement: Judgement) -> dict[str, str]:
    return {finding.rule: english(finding.sentence) for finding in judgement.protocol}


def test_a_weak_total_effect_is_told_with_its_interval() -> None:
    judgement = judged(noisy(0.0))
    total = results(judgement)["raw.denoise.total_effect"]
    told = [english(finding.sentence) for finding in judgement.protocol if finding.rule == "P004"]
    assert [f"interval {total.low:+.3f} to {total.high:+.3f}" in sentence for sentence in told] == [True, False]
    assert results(judgement)[f"raw.denoise.{PLANTED}.normalised"].outcome is Outcome.REFUSED


def test_too_few_clusters_for_the_margin_are_told_with_how_many_it_takes() -> None:
    judgement = judged(noisy(0.0, spread=1.5))
    finding = next(finding for finding in judgement.protocol if finding.rule == "P017")
    mde, clusters = finding.sentence.values["mde"], results(judgement)["raw.race.black.clusters"].value
    assert mde == pytest.approx(results(judgement)["raw.race.black.mde_nats"].value)
    assert finding.remedy.values["clusters"] == np.ceil(clusters * (mde / 0.1) ** 2)
    [power] = [one for one in judgement.statements if one.id == "disparity.power"]
    assert (power.values["mde"], power.values["clusters"]) == (mde, clusters)


def test_flips_no_more_frequent_than_placebo_flips_are_told() -> None:
    assert "P022" in protocol(judged(noisy(0.01, spread=0.3)))
    assert "P022" not in protocol(judged(noisy(1.0), base=noisy(0, spread=0.3, seed=3)))


def test_forms_are_judged_apart_and_may_disagree() -> None:
    judgement = judged(lambda pair: noise(pair) + (0.5 if pair.form == "raw" else -0.5), forms=("raw", "chat"))
    gaps = results(judgement)
    assert gaps["raw.race.black.gap_nats"].low > 0 > gaps["chat.race.black.gap_nats"].high
    assert [form.scope for form in judgement.forms] == ["raw", "chat"]


noise = noisy(0.0)


def test_placebo_flips_stand_beside_real_flips() -> None:
    judgement = judged(noisy(0.5), base=noisy(0, spread=0.3, seed=3))
    [flips] = [one for one in judgement.statements if one.id == "disparity.flips"]
    rows = results(judgement)
    assert flips.values["flips"] == rows["raw.race.black.flips_gross"].value
    assert flips.values["placebo"] == rows["raw.placebo.flip_rate"].value
    excess = rows["raw.race.black.flips_over_placebo"]
    assert excess.value == pytest.approx(flips.values["flips"] - flips.values["placebo"])
    assert excess.low < excess.value < excess.high
    assert excess.n == rows["raw.race.black.clusters"].value


def test_the_same_cells_give_the_same_judgement() -> None:
    assert judged(noisy(0.3)) == judged(noisy(0.3))


def test_every_key_is_unique() -> None:
    judgement = judged(noisy(0.3), forms=("raw", "chat"), groups=("black", "asian"))
    assert len(results(judgement)) == len(judgement.results)


def test_a_failed_control_stops_the_judge() -> None:
    plan, pairs = audit()
    failed = Control(name="full-patch", measured=0.3, tolerance=1e-4, passed=False)
    with pytest.raises(ControlFailed, match="full-patch"):
        judge(plan, decisions(pairs.pairs, noisy(0.1)), [], [PASSED, failed])


def test_a_run_without_controls_supports_neither_pass_nor_fail() -> None:
    plan, pairs = audit()
    judgement = judge(plan, decisions(pairs.pairs, noisy(0.0, spread=0.02)), [], [])
    assert judgement.verdict.value is VerdictValue.INCONCLUSIVE
    assert "P019" in said(judgement)


# Bad input: each has a named outcome. Warnings of libraries are errors in these tests.


def test_one_pair_alone_has_a_value_and_no_conclusion() -> None:
    plan, pairs = audit()
    table = decisions(pairs.pairs, lambda _: 0.7)
    one = table.select(np.array([index == 0 for index in range(len(pairs.pairs))]))
    judgement = judge(plan, one, [effects(plan, one, Direction.DENOISE, shares={})], [PASSED])
    gap = results(judgement)["raw.race.black.gap_nats"]
    assert (gap.value, gap.low, gap.p_value) == (pytest.approx(0.7), None, None)
    assert gap.reason.id == "reason.too_few_clusters"
    assert judgement.verdict.value is VerdictValue.INCONCLUSIVE
    assert "too few to name a site" in said(judgement)


@pytest.mark.parametrize("gap", [0.0, 0.5])
def test_equal_gaps_everywhere_are_inconclusive(gap: float) -> None:
    judgement = judged(lambda _: gap)
    assert judgement.verdict.value is VerdictValue.INCONCLUSIVE
    assert "check that the cue reaches the model" in said(judgement)
    rows = results(judgement)
    assert rows["raw.race.black.gap_nats"].reason.id == "reason.no_variation"
    assert rows["raw.race.black.dz"].outcome is Outcome.UNDEFINED


def test_clusters_that_are_constant_inside_are_ordinary_clusters() -> None:
    steps = {}
    judgement = judged(lambda pair: 0.3 + 0.01 * steps.setdefault(pair.cluster, len(steps)))
    gap = results(judgement)["raw.race.black.gap_nats"]
    assert gap.low < gap.value < gap.high


def test_some_decisions_that_are_no_numbers_are_counted_and_left_out() -> None:
    judgement = judged(noisy(0.4), broken=[0, 5])
    rows = results(judgement)
    assert rows["raw.race.black.pairs_not_measured"].value == 2
    assert rows["raw.prompts_not_finite"].value == 2
    assert judgement.verdict.value is VerdictValue.FAIL
    assert "P020" in {finding.rule for finding in judgement.protocol}


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_run_without_any_number_is_not_measured(broken: float) -> None:
    plan, pairs = audit()
    table = decisions(pairs.pairs, noisy(0.4))
    table.d[:] = broken
    traced = effects(plan, decisions(pairs.pairs, noisy(0.4)), Direction.NOISE, shares={})
    judgement = judge(plan, table, [traced], [PASSED])
    assert judgement.verdict.value is VerdictValue.NOT_MEASURED
    rows = results(judgement)
    assert rows["raw.race.black.gap_nats"].outcome is not Outcome.MEASURED
    assert rows["raw.coverage_mean"].outcome is Outcome.NOT_MEASURED


def test_low_coverage_is_not_measured() -> None:
    judgement = judged(noisy(0.4), share=0.3)
    assert judgement.verdict.value is VerdictValue.NOT_MEASURED
    assert "P003" in {finding.rule for finding in judgement.protocol}


def test_a_group_without_members_is_not_measured_and_breaks_the_protocol() -> None:
    plan, _ = audit(groups=("black", "asian"))
    _, pairs = audit()
    judgement = judge(plan, decisions(pairs.pairs, noisy(0.0, spread=0.02)), [], [PASSED])
    assert "asian: no pairs of this group were measured." in said(judgement)
    assert results(judgement)["raw.race.asian.gap_nats"].outcome is Outcome.NOT_MEASURED
    assert judgement.verdict.value is VerdictValue.INCONCLUSIVE


def test_no_pairs_at_all_are_not_measured() -> None:
    plan, pairs = audit()
    empty = decisions(pairs.pairs, noisy(0.1)).select(np.zeros(len(pairs.pairs), dtype=bool))
    judgement = judge(plan, empty, [], [PASSED])
    assert judgement.verdict.value is VerdictValue.NOT_MEASURED


@pytest.mark.parametrize(("base", "rate"), [(-8.0, 0.0), (8.0, 1.0)])
def test_approval_of_nobody_or_everybody_has_bounds_and_no_ratio_over_zero(base: float, rate: float) -> None:
    rows = results(judged(noisy(0.2), base=lambda _: base))
    assert rows["raw.race.black.rate_reference"].value == rate
    assert rows["raw.race.black.rate_reference"].low <= rate <= rows["raw.race.black.rate_reference"].high
    ratio = rows["raw.race.black.rate_ratio"]
    assert ratio.outcome is (Outcome.MEASURED if rate else Outcome.UNDEFINED)
    assert ratio.value == (1.0 if rate else None)
    assert rows["raw.race.black.mcnemar_p"].value == 1.0
    assert rows["raw.race.black.flips_gross"].high > 0


def test_traces_with_cells_that_are_no_numbers_leave_their_pairs_out() -> None:
    plan, pairs = audit()
    table = decisions(pairs.pairs, noisy(0.4))
    traced = effects(plan, table, Direction.DENOISE, shares={PLANTED: 0.9}, noise=0.01)
    traced.patched[2, 3] = np.nan
    rows = results(judge(plan, table, [traced], [PASSED]))
    assert rows["raw.denoise.pairs_not_measured"].value == 1
    assert np.isfinite(rows[f"raw.denoise.{traced.sites[3].key}"].value)


def test_traces_of_placebo_pairs_only_are_not_traced() -> None:
    plan, pairs = audit()
    table = decisions(pairs.pairs, noisy(0.4))
    traced = effects(plan, table, Direction.DENOISE, shares={})
    placebo = traced.select(np.array([pair.kind is PairKind.PLACEBO for pair in traced.pairs]))
    assert "no pair was traced" in said(judge(plan, table, [placebo], [PASSED]))


def test_an_exploratory_plan_says_so_in_its_protocol() -> None:
    plan, pairs = audit()
    exploratory = plan.model_copy(update={"exploratory": True})
    judgement = judge(exploratory, decisions(pairs.pairs, noisy(0.4)), [], [PASSED])
    assert "P012" in {finding.rule for finding in judgement.protocol}
    assert judgement.controls == (PASSED,)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_cells_hold_the_judgement_is_finite_and_no_library_warns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    plan, pairs = audit(names=int(rng.integers(2, 14)), groups=("black", "asian")[: 1 + seed % 2])
    scale = float(rng.choice([0.0, 1e-6, 1.0, 30.0, 1e5, 1e30]))
    table = decisions(pairs.pairs, noisy(float(rng.choice([0.0, scale])), spread=scale, seed=seed))
    for cells in (table.d, table.log_p_favorable, table.log_p_unfavorable):
        cells[rng.random(cells.shape) < rng.choice([0.0, 0.02, 0.5])] = rng.choice([np.nan, np.inf, -np.inf, 0.0])
    traced = effects(plan, decisions(pairs.pairs, noisy(0.2)), Direction.DENOISE, shares={PLANTED: scale}, noise=0.01)
    traced.patched[rng.random(traced.patched.shape) < rng.choice([0.0, 0.01])] = rng.choice([np.nan, np.inf])
    judgement = judge(plan, table, [traced], [PASSED])
    assert judgement.verdict.value in VerdictValue
    assert all(result.value is not None or result.reason is not None for result in judgement.results)
    assert all(result.low is None or result.low <= result.high for result in judgement.results)


def test_with_several_groups_any_difference_is_tested_and_sites_are_told_for_each() -> None:
    judgement = judged(lambda pair: noise(pair) + 0.5 * (pair.comparison_group == "asian"), groups=("black", "asian"))
    rows = results(judgement)
    p_values = [rows[f"raw.race.{group}.gap_p_holm"].value for group in ("black", "asian")]
    assert rows["raw.race.any_group_p"].value == min(p_values) < 0.05
    apart = [rows[f"raw.race.{group}.denoise.{PLANTED}"].value for group in ("black", "asian")]
    assert apart[1] == pytest.approx(0.45, abs=0.05)
    assert abs(apart[0]) < 0.1
    together = rows[f"raw.denoise.{PLANTED}"].value
    assert together == pytest.approx(np.mean(apart), abs=0.01)
