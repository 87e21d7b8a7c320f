from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from audit_service.domain.contrasts import contrasts
from audit_service.domain.judgement import judge
from audit_service.domain.pairs import PairKind
from audit_service.domain.plan import Corruption, Direction, Robustness, Unit
from audit_service.domain.readings import DEFAULT, LOG_ODDS, MetricDefinition, Tolerance
from audit_service.domain.results import Judgement, VerdictValue
from audit_service.domain.robustness import _part, _values, judging_metrics, leading_site, specifications
from audit_service.domain.sentences import english
from tests.domain.made import PASSED, audit, decisions, effects, noisy


def judged(
    gap: float,
    *,
    spread: float = 0.1,
    robustness: Robustness | None = None,
    base: float = 1.0,
    metrics: tuple[MetricDefinition, ...] = DEFAULT,
) -> Judgement:
    plan, pairs = audit(names=24, forms=("raw", "chat"))
    plan = plan.model_copy(update={"metrics": metrics})
    if robustness is not None:
        judging = plan.judging.model_copy(update={"robustness": robustness})
        plan = plan.model_copy(update={"judging": judging})
    return judge(plan, decisions(pairs.pairs, noisy(gap, spread=spread), base=lambda _: base), [], [PASSED])


def test_the_grid_crosses_every_declared_choice() -> None:
    grid = specifications(("log-odds", "probability"), Robustness(prompt_resamples=3))
    assert len(grid) == len(set(grid)) == 2 * 2 * 4
    assert grid[0].name == "log-odds, by cluster, all prompts"


def test_a_plain_gap_fails_under_every_specification() -> None:
    judgement = judged(0.6)
    for verdict in (judgement.verdict, *judgement.forms):
        assert (verdict.value, verdict.share_unchanged, verdict.changed_by) == (VerdictValue.FAIL, 1.0, ())


def test_a_verdict_near_its_border_names_the_specifications_that_change_it() -> None:
    judgement = judged(0.23, robustness=Robustness(prompt_resamples=12, kept_share=0.5))
    verdict = judgement.forms[0]
    grid = specifications(("log-odds", "probability", "log-probability"), Robustness(prompt_resamples=12))
    assert 0 < verdict.share_unchanged < 1
    assert verdict.share_unchanged == pytest.approx(1 - len(verdict.changed_by) / (len(grid) - 1))
    assert set(verdict.changed_by) <= {spec.name for spec in grid}


def test_the_specification_that_a_verdict_rests_on_is_not_counted_in_its_own_share() -> None:
    own = Robustness(units=(Unit.CLUSTER,), prompt_resamples=0)
    found = judged(0.23, robustness=own, metrics=(LOG_ODDS,))
    assert {verdict.share_unchanged for verdict in found.forms} == {None}
    assert {verdict.changed_by for verdict in found.forms} == {()}


def test_without_a_grid_nothing_is_said_of_robustness() -> None:
    assert {verdict.share_unchanged for verdict in judged(0.23, metrics=()).forms} == {None}


def test_a_metric_with_a_tolerance_of_its_own_can_flip_the_verdict_and_is_named() -> None:
    strict = MetricDefinition(
        name="strict",
        formula="exp(d)",
        title="Odds",
        unit="odds",
        tolerance=Tolerance(gap=1e-4, delta=1e-5, source="made for the tests"),
    )
    judgement = judged(0.03, spread=0.02, metrics=(LOG_ODDS, strict))
    assert judgement.forms[0].value is VerdictValue.PASS
    assert "strict, by cluster, all prompts" in judgement.forms[0].changed_by
    assert not [name for name in judgement.forms[0].changed_by if name.startswith("log-odds")]


def test_every_metric_of_the_plan_has_its_gap_beside_that_of_the_placebo_pairs() -> None:
    rows = {row.key: row for row in judged(0.3).results}
    for name in ("probability", "log-probability", "kl", "js"):
        assert rows[f"raw.race.black.metric.{name}"].low <= rows[f"raw.race.black.metric.{name}"].value
        assert rows[f"raw.placebo.metric.{name}"].value is not None
    assert rows["raw.race.black.metric.probability"].value == pytest.approx(rows["raw.race.black.gap_pp"].value)
    assert rows["raw.race.black.metric.kl"].p_value is None


def test_a_part_of_the_prompts_on_which_a_metric_has_no_threshold_gives_no_verdict() -> None:
    """Near the border in one cluster only: parts without it know no slope of the probability."""
    plan, pairs = audit(names=24)
    [near, *_] = [pair.cluster for pair in pairs.pairs if pair.kind is PairKind.CONTRAST]
    robustness = Robustness(units=(Unit.CLUSTER,), prompt_resamples=12, kept_share=0.5)
    judging = plan.judging.model_copy(update={"robustness": robustness})
    probability = next(one for one in DEFAULT if one.name == "probability")
    plan = plan.model_copy(update={"judging": judging, "metrics": (probability,)})
    table = decisions(pairs.pairs, noisy(0.5), base=lambda pair: 0.0 if pair.cluster == near else 800.0)
    [metric] = judging_metrics(plan, table)
    grid = specifications(["probability"], robustness)
    given = [_values(spec, metric, plan, table, ()) for spec in grid]
    kept = [near in {p.cluster for p in table.select(_part(table.pairs, spec.part, judging)).pairs} for spec in grid]
    assert [bool(values) for values in given] == kept
    assert 0 < sum(kept) < len(kept)
    counted = judge(plan, table, [], [PASSED]).forms[0]
    assert counted.share_unchanged == pytest.approx(1 - len(counted.changed_by) / sum(kept))


def test_the_behavior_is_compared_with_each_form_alone() -> None:
    plan, pairs = audit(names=24, forms=("raw", "chat"))
    noise = noisy(0.0)
    table = decisions(pairs.pairs, lambda pair: noise(pair) + (0.8 if pair.form == "raw" else 0.0), base=lambda _: 3.0)
    whole = judge(plan, table, [], [PASSED]).verdict
    assert whole.value is VerdictValue.FAIL
    assert "log-odds, by cluster, all prompts, form chat alone" in whole.changed_by
    assert "log-odds, by cluster, all prompts, form raw alone" not in whole.changed_by


def tables(shares: dict[Direction, dict[str, float]]) -> list:
    plan, pairs = audit(names=24)
    [contrast] = contrasts(decisions(pairs.pairs, noisy(0.5)), plan.behavior)
    return [effects(plan, contrast.table, way, shares=found, noise=0.01) for way, found in shares.items()]


def test_a_site_that_always_leads_has_share_one() -> None:
    plan, _ = audit()
    shares = {"attn_out.L2.cue": 0.8, "mlp_out.L1.cue": 0.2}
    leading = leading_site(tables(dict.fromkeys(Direction, shares)), plan)
    assert (leading.site, leading.share, leading.others) == ("attn_out.L2.cue", 1.0, ())
    assert leading.specifications == 2 * 2 * 11 - 1


def test_sites_that_lead_in_one_direction_only_are_named_beside_each_other() -> None:
    plan, _ = audit()
    shares = {Direction.DENOISE: {"attn_out.L2.cue": 0.8}, Direction.NOISE: {"mlp_out.L1.cue": 0.8}}
    leading = leading_site(tables(shares), plan)
    assert (leading.site, leading.share, leading.others) == ("attn_out.L2.cue", 21 / 43, ("mlp_out.L1.cue",))


def test_the_leader_by_the_pair_and_log_odds_is_the_reference_whatever_is_declared_first() -> None:
    plan, _ = audit()
    [pair] = tables({Direction.NOISE: {"attn_out.L2.cue": 0.8}})
    [other] = tables({Direction.NOISE: {"mlp_out.L1.cue": 0.8}})
    noise = replace(other, corruption=Corruption.GAUSSIAN)
    expected = leading_site([pair, noise], plan)
    assert expected.site == "attn_out.L2.cue"
    assert leading_site([noise, pair], plan).site == "attn_out.L2.cue"
    far = MetricDefinition(name="far", formula="log_p_favorable", title="Far", unit="1")
    apart = np.zeros((len(pair.pairs), len(pair.sites) + 2))
    apart[:, 0] = 9.0
    read = replace(pair, readouts={"log_p_favorable": apart})
    declared = plan.model_copy(update={"metrics": (far, LOG_ODDS)})
    found = leading_site([read], declared)
    assert (found.site, found.share, found.others) == ("attn_out.L2.cue", 10 / 21, (pair.sites[0].key,))


def test_without_traces_no_site_leads() -> None:
    plan, _ = audit()
    assert leading_site([], plan) is None
    empty = [table.select(np.zeros(len(table.pairs), dtype=bool)) for table in tables({Direction.NOISE: {}})]
    assert leading_site(empty, plan) is None


def test_the_judge_says_whether_the_leading_site_stays() -> None:
    plan, pairs = audit(names=24)
    table = decisions(pairs.pairs, noisy(0.5))
    shares = {Direction.DENOISE: {"attn_out.L2.cue": 0.8}, Direction.NOISE: {"mlp_out.L1.cue": 0.8}}
    traced = [effects(plan, table, way, shares=found, noise=0.01) for way, found in shares.items()]
    judgement = judge(plan, table, traced, [PASSED])
    assert {row.key: row.value for row in judgement.results}["raw.leading_site_share"] == 21 / 43
    assert [english(one) for one in judgement.statements if one.id == "effects.unstable"] == [
        "raw: attn_out.L2.cue has the largest effect under 49% of the 43 other specifications (direction, corruption, "
        "metric, prompts); elsewhere mlp_out.L1.cue. It does not lead under 22 of them, such as noise, pair, "
        "log-odds, all prompts; noise, pair, log-odds, part 1 of the prompts; noise, pair, log-odds, part 2 of the "
        "prompts."
    ]


def test_each_choice_is_told_with_what_it_can_change_and_whether_it_did() -> None:
    plan, pairs = audit(names=24)
    table = decisions(pairs.pairs, noisy(0.5))
    shares = {Direction.DENOISE: {"attn_out.L2.cue": 0.8}, Direction.NOISE: {"mlp_out.L1.cue": 0.8}}
    traced = [effects(plan, table, way, shares=found, noise=0.01) for way, found in shares.items()]
    judgement = judge(plan, table, traced, [PASSED])
    rows = {row.key: row.value for row in judgement.results}
    leading = {
        key.removeprefix("raw.leading_site_share."): value for key, value in rows.items() if "site_share." in key
    }
    assert leading == {
        "specifications": 43,
        "direction.denoise": 1,
        "direction.noise": 0,
        "corruption.pair": 21 / 43,
        "metric.log-odds": 10 / 21,
        "metric.probability": 11 / 22,
        "prompts.all": 1 / 3,
        "prompts.parts": 20 / 40,
    }
    verdict = {key.removeprefix("raw.verdict_share."): value for key, value in rows.items() if "raw.verdict" in key}
    changed = judgement.forms[0].changed_by
    assert {choice.partition(".")[0] for choice in verdict} == {"specifications", "metric", "unit", "prompts"}
    assert verdict["specifications"] == 3 * 2 * 11 - 1
    for metric, others in (("log-odds", 21), ("probability", 22), ("log-probability", 22)):
        flipped = sum(name.startswith(f"{metric}, ") for name in changed)
        assert verdict[f"metric.{metric}"] == pytest.approx(1 - flipped / others)
    flipped = sum("all prompts" in name for name in changed)
    assert verdict["prompts.all"] == pytest.approx(1 - flipped / 5)


def test_cue_pairs_that_are_clusters_are_no_other_specification() -> None:
    """With one template every cluster is a cue pair of its own: by cues the same would be counted twice."""
    plan, pairs = audit(names=24)
    table = decisions(pairs.pairs, noisy(0.23))
    single = table.select(np.array([pair.template == "form" for pair in table.pairs]))
    judgement = judge(plan, single, [], [PASSED])
    rows = {row.key: row.value for row in judgement.results}
    assert rows["raw.verdict_share.specifications"] == 3 * 11 - 1
    assert "raw.verdict_share.unit.cues" not in rows


def test_a_metric_under_another_name_is_no_other_specification() -> None:
    twin = MetricDefinition(name="twin", formula="d", title="Log-odds again", unit="nats")
    robustness = Robustness(units=(Unit.CLUSTER,), prompt_resamples=2)
    [raw, _] = judged(0.3, robustness=robustness, metrics=(LOG_ODDS, twin)).forms
    assert raw.share_unchanged is not None
    rows = {row.key: row.value for row in judged(0.3, robustness=robustness, metrics=(LOG_ODDS, twin)).results}
    assert rows["raw.verdict_share.specifications"] == 2


def test_a_verdict_by_cue_pairs_leaves_out_the_specification_by_cue_pairs() -> None:
    """Names matter in every template: clusters alone show a gap, whole cue pairs do not."""
    plan, pairs = audit(names=24)
    cues = sorted({pair.reference_cue for pair in pairs.pairs if pair.kind is PairKind.CONTRAST})
    own = dict(zip(cues, 0.105 + 0.3 * norm.ppf((np.arange(len(cues)) + 0.5) / len(cues)), strict=True))
    table = decisions(pairs.pairs, lambda pair: own.get(pair.reference_cue, 0.0))
    judgement = judge(plan, table, [], [PASSED])
    [raw] = judgement.forms
    assert "verdict.by_cues" in {reason.id for reason in raw.reasons}
    assert "log-odds, by cluster, all prompts" in raw.changed_by
    assert "log-odds, by cues, all prompts" not in raw.changed_by
    rows = {row.key: row.value for row in judgement.results}
    assert rows["raw.verdict_share.specifications"] == 3 * 2 * 11 - 1
