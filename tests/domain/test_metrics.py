from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.spatial.distance import jensenshannon
from scipy.special import expit
from scipy.stats import entropy

from audit_service.domain.behaviors import Answer
from audit_service.domain.cells import RESOLUTION, EffectTable
from audit_service.domain.effect_rows import named_sites
from audit_service.domain.effects import site_effects
from audit_service.domain.metrics import LOG_ODDS, answers, expected_value, jensen_shannon, kl, metric_of, values
from audit_service.domain.plan import Direction, Plan
from audit_service.domain.readings import BUILT_IN, NAMES, MetricDefinition, Tolerance
from audit_service.domain.traced import measured_part
from tests.domain.made import METRICS, audit, behavior, decisions, effects, noisy

_, PAIRS = audit()
TABLE = decisions(PAIRS.pairs, noisy(0.3), base=noisy(0, spread=1, seed=9), share=0.8)
D = TABLE.d.astype(float)
RNG = np.random.default_rng(0)
P, Q = (RNG.dirichlet([1, 2, 3], size=7) for _ in range(2))


def custom(formula: str, **options: object) -> MetricDefinition:
    return MetricDefinition(name="ours", formula=formula, title="Ours", unit="odds", **options)


def test_the_built_in_metrics_are_those_of_the_method() -> None:
    np.testing.assert_allclose(METRICS["log-odds"].value(TABLE), D)
    np.testing.assert_allclose(METRICS["probability"].value(TABLE), 100 * expit(D))
    np.testing.assert_allclose(METRICS["log-probability"].value(TABLE), np.log(0.8 * expit(D)), rtol=1e-5)
    np.testing.assert_array_equal(METRICS["flip"].value(TABLE), 100 * (D > 0))
    assert set(METRICS) == {"log-odds", "probability", "log-probability", "flip", "kl", "js", "rank", "expected-amount"}


def test_the_slopes_are_the_derivatives() -> None:
    p = expit(D)
    assert METRICS["log-odds"].slope(TABLE) == pytest.approx(1)
    assert METRICS["probability"].slope(TABLE) == pytest.approx((100 * p * (1 - p)).mean(), rel=1e-5)
    assert METRICS["log-probability"].slope(TABLE) == pytest.approx((1 - p).mean(), rel=1e-5)


@pytest.mark.parametrize("name", ["flip", "kl", "js"])
def test_a_metric_that_does_not_follow_the_log_odds_has_no_threshold_of_its_own_accord(name: str) -> None:
    assert METRICS[name].margins(TABLE, threshold=0.2, delta=0.1) is None


def test_a_threshold_in_nats_is_read_by_the_slope_and_a_declared_one_as_it_is() -> None:
    found = METRICS["probability"].margins(TABLE, threshold=0.2, delta=0.1)
    slope = METRICS["probability"].slope(TABLE)
    assert found == pytest.approx((0.2 * slope, 0.1 * slope))
    own = custom("100 * approved", tolerance=Tolerance(gap=5, delta=2, source="policy"))
    assert metric_of(own, behavior()).margins(TABLE, threshold=0.2, delta=0.1) == (5, 2)
    falling = metric_of(custom("-d"), behavior())
    assert falling.margins(TABLE, threshold=0.2, delta=0.1) == pytest.approx((0.2, 0.1))


def test_divergences_at_the_decision_are_those_of_the_reference_prompt_from_the_comparison_prompt() -> None:
    distributions = np.stack([0.8 * expit(D), 0.8 * expit(-D), np.full(D.shape, 0.2)], axis=-1)
    expected = entropy(distributions[:, 0], distributions[:, 1], axis=-1)
    np.testing.assert_allclose(METRICS["kl"].value(TABLE)[:, 0], expected, atol=1e-6)
    np.testing.assert_array_equal(METRICS["kl"].value(TABLE)[:, 1], 0)


def test_every_name_of_a_formula_is_a_measured_value() -> None:
    known = values(TABLE, cut=0.0, amounts={})
    assert set(known) == NAMES - {"rank", "expected_amount", "logit_favorable", "logit_unfavorable"}
    np.testing.assert_allclose(known["p_favorable"] + known["p_unfavorable"], known["coverage"], rtol=1e-6)


def test_a_custom_metric_is_its_formula() -> None:
    metric = metric_of(custom("p_favorable / p_unfavorable"), behavior())
    np.testing.assert_allclose(metric.value(TABLE), np.exp(D), rtol=1e-5)
    assert metric.slope(TABLE) == pytest.approx(np.exp(D).mean(), rel=1e-4)


def test_a_formula_without_a_value_gives_none() -> None:
    assert np.isnan(metric_of(custom("log(0 * d)"), behavior()).value(TABLE)).all()


def test_a_formula_over_other_names_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValidationError, match=r"(?s)logit_maybe.*Use numbers.*coverage.*log_p_of_NAME"):
        custom("logit_maybe")


def test_a_metric_that_asks_for_what_was_not_read_says_so() -> None:
    assert not METRICS["rank"].knows(TABLE)
    read = replace(TABLE, readouts={"rank": np.ones(D.shape, np.float32)})
    assert METRICS["rank"].knows(read)


def test_the_expected_amount_is_read_from_the_answers_of_the_behavior() -> None:
    subject = behavior().model_copy(
        update={
            "answers": {"low": Answer(spellings=(" 4",), amount=4.0), "high": Answer(spellings=(" 9",), amount=9.0)}
        }
    )
    shares = np.log(np.array([0.3, 0.1], np.float32))
    readouts = {
        f"log_p_of_{name}": np.full(D.shape, share) for name, share in zip(("low", "high"), shares, strict=True)
    }
    table = replace(TABLE, readouts=readouts)
    [definition] = [one for one in BUILT_IN if one.name == "expected-amount"]
    np.testing.assert_allclose(metric_of(definition, subject).value(table), (0.3 * 4 + 0.1 * 9) / 0.4, rtol=1e-6)
    np.testing.assert_allclose(metric_of(custom("p_of_low"), subject).value(table), 0.3, rtol=1e-6)
    assert custom("log_p_of_low + p_of_high").answers() == {"low", "high"}


def traced(direction: Direction) -> EffectTable:
    plan, pairs = audit()
    rng = np.random.default_rng(1)
    patched = rng.normal(0, 1, (len(pairs.pairs), len(plan.sites))).astype(np.float32)
    log_p = np.log(rng.uniform(0.1, 0.9, (len(pairs.pairs), len(plan.sites) + 2)))
    return EffectTable(
        "raw",
        direction,
        pairs.pairs,
        plan.sites,
        TABLE.d[:, 0],
        TABLE.d[:, 1],
        patched,
        readouts={"log_p_favorable": log_p},
    )


@pytest.mark.parametrize("direction", Direction)
def test_traces_are_read_under_another_metric_from_the_same_cells(direction: Direction) -> None:
    table = traced(direction)
    unpatched = D[:, 1] if direction is Direction.DENOISE else D[:, 0]
    read = METRICS["probability"].under(table)
    np.testing.assert_allclose(read.effects, 100 * (expit(table.patched) - expit(unpatched)[:, None]), atol=1e-5)
    way = 1 if direction is Direction.DENOISE else -1
    np.testing.assert_allclose(read.total, way * 100 * (expit(D[:, 0]) - expit(D[:, 1])), atol=1e-5)
    log_p = table.readouts["log_p_favorable"]
    own = log_p[:, -1] if direction is Direction.DENOISE else log_p[:, -2]
    np.testing.assert_allclose(METRICS["log-probability"].under(table).effects, log_p[:, :-2] - own[:, None])
    np.testing.assert_allclose(LOG_ODDS.under(table).effects, table.effects, atol=1e-6)


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("shift", [1e-6, 1e-2])
@pytest.mark.parametrize(
    "definition", [METRICS[name].definition for name in ("log-probability", "kl", "js")] + [custom("p_favorable + kl")]
)
def test_rounding_names_no_site_under_any_metric(
    direction: Direction, shift: float, definition: MetricDefinition
) -> None:
    """A shift that arithmetic explains is the same in every pair here, so a test of signs alone would name it."""
    plan, pairs = audit(names=24)
    table = decisions(pairs.pairs, noisy(0.3))
    unpatched = effects(plan, table, direction, shares={})
    shape = (len(pairs.pairs), len(plan.sites) + 2)
    readouts = {"log_p_favorable": np.full(shape, -0.7), "kl": np.full(shape, 0.2), "js": np.full(shape, 0.1)}
    for cells in readouts.values():
        cells[:, :-2] += shift
    whole = replace(unpatched, readouts=readouts)
    contrast = measured_part(plan, whole, table).contrast
    read = metric_of(definition, plan.behavior).under(contrast)
    named = named_sites(site_effects(read, alpha=0.05, resamples=1000, seed=1), alpha=0.05)
    assert len(named) == (0 if shift < RESOLUTION else len(plan.sites))


def test_traces_are_not_read_under_what_was_not_kept() -> None:
    assert METRICS["kl"].under(traced(Direction.NOISE)) is None


def test_the_answers_of_a_prompt_are_a_distribution() -> None:
    distribution = answers(values(TABLE, cut=0.0, amounts={}))
    np.testing.assert_allclose(distribution.sum(axis=-1), 1)
    np.testing.assert_allclose(distribution[..., 2], 0.2, atol=1e-5)


def test_divergences_are_those_of_scipy() -> None:
    np.testing.assert_allclose(kl(P, Q), entropy(P, Q, axis=-1))
    np.testing.assert_allclose(jensen_shannon(P, Q), jensenshannon(P, Q, axis=-1) ** 2)


def test_divergences_of_the_impossible_are_infinite_or_bounded() -> None:
    one, other = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert kl(one, other) == np.inf
    assert jensen_shannon(one, other) == pytest.approx(np.log(2))
    assert kl(one, one) == 0


def test_coarser_answers_never_diverge_more() -> None:
    merged = [np.column_stack([x[:, 0], x[:, 1:].sum(axis=1)]) for x in (P, Q)]
    assert (kl(*merged) <= kl(P, Q) + 1e-12).all()


def test_the_expected_amount_is_weighted_by_relative_probability() -> None:
    log_p = np.log(np.array([[0.1, 0.3], [0.2, 0.2]]))
    np.testing.assert_allclose(expected_value(log_p, np.array([5.0, 9.0])), [8.0, 7.0])
    np.testing.assert_allclose(expected_value(log_p - 2000, np.array([5.0, 9.0])), [8.0, 7.0])


def test_logits_are_the_log_probabilities_before_they_are_normalised() -> None:
    logits = RNG.normal(size=(len(PAIRS.pairs), 2, 5))
    total = np.logaddexp.reduce(logits, axis=2)
    table = replace(
        TABLE,
        d=logits[..., 0] - logits[..., 1],
        log_p_favorable=logits[..., 0] - total,
        log_p_unfavorable=logits[..., 1] - total,
        readouts={"log_total": total, "log_p_of_low": logits[..., 2] - total},
    )
    metric = metric_of(custom("logit_favorable - 2 * logit_unfavorable + logit_of_low"), behavior())
    expected = logits[..., 0] - 2 * logits[..., 1] + logits[..., 2]
    np.testing.assert_allclose(metric.value(table), expected, atol=1e-12)
    assert metric.definition.answers() == {"low"}
    assert metric.margins(table, threshold=0.2, delta=0.1) is None
    assert not metric_of(custom("logit_favorable"), behavior()).knows(TABLE)


def test_only_a_plan_that_asks_for_logits_reads_them() -> None:
    made, _ = audit()
    assert not made.reads_logits
    content = {name: getattr(made, name) for name in Plan.model_fields}
    asking = Plan(**content | {"metrics": (custom("logit_favorable"),)})
    assert asking.reads_logits
