"""Models whose workings are known, audited end to end."""

from pathlib import Path

import pytest

from audit_service.domain.behaviors import Answer
from audit_service.domain.plan import Corruption, Direction, Plan
from audit_service.domain.readings import BUILT_IN, MetricDefinition
from audit_service.domain.results import Judgement, Result, VerdictValue
from audit_service.domain.sites import SiteKind
from tests.planted import CONJOINT, ONE_HEAD, REDUNDANT, Rule
from tests.workers.planted_audits import changed, judged, planted

BOTH = ("z.L0.1.all", "z.L1.2.all")


def audited(folder: Path, rule: Rule, **tracing: object) -> tuple[Plan, Judgement]:
    made, pairs, network = planted(folder, rule, **tracing)
    return made, judged(made, pairs, network)


def rows(judgement: Judgement) -> dict[str, Result]:
    return {row.key: row for row in judgement.results}


def named(made: Plan, judgement: Judgement, direction: str, kind: str = "z") -> set[str]:
    found = rows(judgement)
    keys = [site.key for site in made.sites if site.kind == kind and site.width == 1]
    return {key for key in keys if found[f"raw.{direction}.{key}.p_maxt"].value < made.judging.alpha}


def said(judgement: Judgement) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = {}
    for one in judgement.statements:
        found.setdefault(one.id, []).append(dict(one.values))
    return found


def test_one_planted_head_is_named_alone_in_both_directions_and_has_the_whole_effect(tmp_path: Path) -> None:
    made, judgement = audited(tmp_path, ONE_HEAD, joint_sites=2)
    assert judgement.verdict.value is VerdictValue.FAIL
    found = rows(judgement)
    for direction in Direction:
        assert named(made, judgement, direction) == {"z.L1.2.all"}
        assert named(made, judgement, direction, "mlp_out") == {"mlp_out.L2.decision"}
        whole = found[f"raw.{direction}.total_effect"].value
        assert found[f"raw.{direction}.z.L1.2.all"].value == pytest.approx(whole, abs=1e-3)
        assert found[f"raw.{direction}.z.L1.2.all.normalised"].value == pytest.approx(1, abs=1e-3)
    assert "effects.or_like" not in said(judgement)
    # The head acts through the MLP: together they do no more than either alone.
    [series] = said(judgement)["effects.joint_series"]
    assert {series["site"], series["others"]} == {"z.L1.2.all", "mlp_out.L2.decision"}


def test_a_redundant_pair_is_or_like_alone_and_together(tmp_path: Path) -> None:
    made, judgement = audited(tmp_path, REDUNDANT, kinds=(SiteKind.Z,), joint_sites=2)
    assert named(made, judgement, "denoise") == set(BOTH)
    assert {one["site"] for one in said(judgement)["effects.or_like"]} == set(BOTH)
    [pair] = said(judgement)["effects.joint_or"]
    assert {pair["site"], pair["others"]} == set(BOTH)
    found = rows(judgement)
    key = "joint.z.L0.1.all+z.L1.2.all"
    total = found["raw.denoise.total_effect"].value
    assert found[f"raw.denoise.{key}.together"].value == pytest.approx(total, rel=0.05)
    assert found[f"raw.denoise.{key}"].value < -0.5 * total
    assert found[f"raw.noise.{key}"].value < -0.5 * total
    assert found[f"raw.noise.{key}.p_maxt"].value < made.judging.alpha


def test_two_heads_that_need_each_other_are_and_like(tmp_path: Path) -> None:
    _, judgement = audited(tmp_path, CONJOINT, kinds=(SiteKind.Z,), joint_sites=2, directions=tuple(Direction)[::-1])
    assert {one["site"] for one in said(judgement)["effects.and_like"]} == set(BOTH)
    [pair] = said(judgement)["effects.joint_and"]
    assert pair["restored"] > 0.5
    assert pair["taken"] > 0.5


def test_other_corruptions_and_windows_find_the_planted_head_too(tmp_path: Path) -> None:
    made, judgement = audited(
        tmp_path,
        ONE_HEAD,
        kinds=(SiteKind.Z, SiteKind.ATTN_OUT),
        corruptions=tuple(one for one in Corruption if one is not Corruption.POSITIONAL_MEAN),
        windows=(1, 2),
        pairs_per_form=12,
    )
    found = rows(judgement)
    # Without what the head writes the decision value is the bias, whatever the prompt.
    own = found["raw.noise.total_effect"].value
    assert found["raw.noise.zero.z.L1.2.all"].value == pytest.approx(own, abs=1e-3)
    for key in ("denoise.gaussian", "noise.gaussian", "denoise.resample", "noise.resample", "noise.mean"):
        effects = {
            site.key: abs(found[f"raw.{key}.{site.key}"].value)
            for site in made.sites
            if site.kind is SiteKind.Z and site.width == 1
        }
        assert max(effects, key=effects.__getitem__) == "z.L1.2.all"
    assert found["raw.noise.window2.attn_out.L1-2.decision"].value == pytest.approx(own, abs=1e-3)
    assert not [key for key in found if key.startswith("raw.denoise.zero")]
    assert {one["variant"] for one in said(judgement)["effects.variant"]} == {
        "gaussian",
        "gaussian.window2",
        "resample",
        "resample.window2",
        "mean",
        "mean.window2",
        "zero",
        "zero.window2",
        "window2",
    }
    [stable] = [values for name in ("effects.stable", "effects.unstable") for values in said(judgement).get(name, [])]
    assert stable["site"] == "z.L1.2.all"


def test_every_metric_is_read_in_the_same_runs(tmp_path: Path) -> None:
    made, pairs, network = planted(tmp_path, ONE_HEAD, kinds=(SiteKind.Z,), pairs_per_form=12)
    logits = MetricDefinition(name="logits", formula="logit_favorable - logit_unfavorable", title="Logits", unit="nats")
    wanted = (*(metric for metric in BUILT_IN if metric.name != "expected-amount"), logits)
    whole = changed(made, metrics=wanted, tracing=made.tracing.model_copy(update={"all_readouts": True}))
    found = rows(judged(whole, pairs, network))
    for direction in Direction:
        for name in ("probability", "log-probability", "kl", "js"):
            key = f"raw.{direction}.metric.{name}"
            assert found[f"{key}.named_sites"].value == 1
            assert found[f"{key}.z.L1.2.all"].value != 0
        # Patching the head makes the run say what its donor says.
        assert found[f"raw.{direction}.metric.kl.z.L1.2.all"].value < 0
        # The difference of two logits is the log-odds, in the patched runs too.
        effect = found[f"raw.{direction}.z.L1.2.all"].value
        assert found[f"raw.{direction}.metric.logits.z.L1.2.all"].value == pytest.approx(effect, abs=1e-5)
    assert found["raw.race.black.metric.logits"].value == pytest.approx(
        found["raw.race.black.gap_nats"].value, abs=1e-5
    )
    assert found["raw.race.black.metric.rank"].value is not None
    assert found["raw.race.black.metric.kl"].value > found["raw.placebo.metric.kl"].value


def test_the_expected_amount_of_two_answers_follows_from_their_probabilities(tmp_path: Path) -> None:
    made, pairs, network = planted(tmp_path, ONE_HEAD, kinds=(SiteKind.Z,), pairs_per_form=12)
    answers = {"cheap": Answer(spellings=(" Yes",), amount=1), "dear": Answer(spellings=(" No",), amount=3)}
    priced = changed(
        made,
        behavior=made.behavior.model_copy(update={"answers": answers}),
        metrics=tuple(m for m in BUILT_IN if m.name in {"log-odds", "probability", "expected-amount"}),
        tracing=made.tracing.model_copy(update={"all_readouts": True}),
    )
    found = rows(judged(priced, pairs, network))
    # 1 p + 3 (1 - p) falls by 2 where p, the share of the first answer, rises by 1.
    for key in ("race.black", "placebo"):
        share = found[f"raw.{key}.metric.probability"].value / 100
        assert found[f"raw.{key}.metric.expected-amount"].value == pytest.approx(-2 * share, abs=1e-5)
    for direction in Direction:
        share = found[f"raw.{direction}.metric.probability.z.L1.2.all"].value / 100
        assert abs(share) > 0.1
        amount = found[f"raw.{direction}.metric.expected-amount.z.L1.2.all"].value
        assert amount == pytest.approx(-2 * share, abs=1e-5)


def test_a_run_that_kept_the_decision_values_alone_says_which_metrics_were_not_read(tmp_path: Path) -> None:
    _, judgement = audited(tmp_path, ONE_HEAD, kinds=(SiteKind.Z,), pairs_per_form=12)
    kl = rows(judgement)["raw.denoise.metric.kl.named_sites"]
    assert (kl.value, kl.reason.id) == (None, "reason.not_measured")
