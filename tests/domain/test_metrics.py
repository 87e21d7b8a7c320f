import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import expit
from scipy.stats import entropy

from audit_service.domain.metrics import (
    METRICS,
    NAMES,
    answers,
    custom,
    expected_value,
    jensen_shannon,
    kl,
    rank,
    values,
)
from audit_service.domain.readings import Reading
from audit_service.errors import InvalidInput
from tests.domain.made import audit, decisions, noisy

_, PAIRS = audit()
TABLE = decisions(PAIRS.pairs, noisy(0.3), base=noisy(0, spread=1, seed=9), share=0.8)
D = TABLE.d.astype(float)
RNG = np.random.default_rng(0)
P, Q = (RNG.dirichlet([1, 2, 3], size=7) for _ in range(2))


def test_the_built_in_metrics_are_those_of_the_method() -> None:
    np.testing.assert_allclose(METRICS[Reading.LOG_ODDS].value(TABLE), D)
    np.testing.assert_allclose(METRICS[Reading.PROBABILITY].value(TABLE), 100 * expit(D))
    np.testing.assert_allclose(METRICS[Reading.LOG_PROBABILITY].value(TABLE), np.log(0.8 * expit(D)), rtol=1e-5)


def test_the_slopes_are_the_derivatives() -> None:
    p = expit(D)
    assert METRICS[Reading.LOG_ODDS].slope(TABLE) == pytest.approx(1)
    assert METRICS[Reading.PROBABILITY].slope(TABLE) == pytest.approx((100 * p * (1 - p)).mean(), rel=1e-5)
    assert METRICS[Reading.LOG_PROBABILITY].slope(TABLE) == pytest.approx((1 - p).mean(), rel=1e-5)


def test_every_name_of_a_formula_is_a_measured_value() -> None:
    known = values(TABLE)
    assert set(known) == set(NAMES)
    np.testing.assert_allclose(known["p_favorable"] + known["p_unfavorable"], known["coverage"], rtol=1e-6)


def test_a_custom_metric_is_its_formula() -> None:
    metric = custom("odds", "p_favorable / p_unfavorable", unit="odds")
    np.testing.assert_allclose(metric.value(TABLE), np.exp(D), rtol=1e-5)
    assert metric.slope(TABLE) == pytest.approx(np.exp(D).mean(), rel=1e-4)


def test_a_formula_over_other_names_is_refused() -> None:
    with pytest.raises(InvalidInput, match="logit_maybe"):
        custom("x", "logit_maybe", unit="nats")


def test_the_answers_of_a_prompt_are_a_distribution() -> None:
    distribution = answers(TABLE)
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


def test_the_best_answer_has_rank_one_and_ties_count_against_it() -> None:
    scores = np.array([[3.0, 1.0, 2.0], [2.0, 2.0, 1.0]])
    np.testing.assert_array_equal(rank(scores, 0), [1, 2])
    np.testing.assert_array_equal(rank(scores, 1), [3, 2])


def test_the_expected_amount_is_weighted_by_relative_probability() -> None:
    log_p = np.log(np.array([[0.1, 0.3], [0.2, 0.2]]))
    np.testing.assert_allclose(expected_value(log_p, np.array([5.0, 9.0])), [8.0, 7.0])
    np.testing.assert_allclose(expected_value(log_p - 2000, np.array([5.0, 9.0])), [8.0, 7.0])
