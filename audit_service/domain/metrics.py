"""Metrics: a number per prompt, read from the kept cells without another run of the model (METHOD.md section 4)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import expit, rel_entr

from audit_service.domain.cells import DecisionTable
from audit_service.domain.expressions import Expression, parse
from audit_service.domain.readings import Reading
from audit_service.domain.uncertainty import Array

STEP = 1e-3
"""Nats by which the slope of a metric is taken, to either side."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A decision value per prompt."""

    name: str
    unit: str
    value: Callable[[DecisionTable], Array]
    """[pair, side]"""

    def slope(self, table: DecisionTable) -> float:
        """Mean change of the metric per nat of log-odds on these prompts, at the coverage they have.

        It converts a threshold and a margin, which are in nats, into the metric's unit.
        """
        lower, upper = (self.value(_shifted(table, step)) for step in (-STEP, STEP))
        return float((upper - lower).mean() / (2 * STEP))


def _shifted(table: DecisionTable, nats: float) -> DecisionTable:
    """The prompts with their log-odds moved and their coverage kept, in double precision."""
    d = table.d.astype(np.float64) + nats
    coverage = np.log(table.coverage)
    return DecisionTable(table.pairs, d, coverage - np.logaddexp(0, -d), coverage - np.logaddexp(0, d))


def values(table: DecisionTable) -> dict[str, Array]:
    """What a formula may use, each [pair, side]: log-odds and probabilities of the declared labels."""
    favorable, unfavorable = (x.astype(np.float64) for x in (table.log_p_favorable, table.log_p_unfavorable))
    d = table.d.astype(np.float64)
    return {
        "d": d,
        "p": expit(d),
        "log_p_favorable": favorable,
        "log_p_unfavorable": unfavorable,
        "p_favorable": np.exp(favorable),
        "p_unfavorable": np.exp(unfavorable),
        "coverage": table.coverage,
    }


NAMES = ("d", "p", "log_p_favorable", "log_p_unfavorable", "p_favorable", "p_unfavorable", "coverage")


def _evaluate(expression: Expression, table: DecisionTable) -> Array:
    return expression(values(table))


def custom(name: str, formula: str, *, unit: str) -> Metric:
    """A metric from a formula over ``NAMES``. InvalidInput if the formula is not allowed."""
    return Metric(name, unit, partial(_evaluate, parse(formula, names=NAMES)))


LOG_ODDS = custom(Reading.LOG_ODDS, "d", unit="nats")
"""The default (METHOD.md section 1)."""
PROBABILITY = custom(Reading.PROBABILITY, "100 * p", unit="percentage points")
"""p = sigmoid(d); hides effects near 0 and 1."""
LOG_PROBABILITY = custom(Reading.LOG_PROBABILITY, "log_p_favorable", unit="nats")
"""Log of the favorable labels' probability; coverage moves it too."""
METRICS = {
    Reading.LOG_ODDS: LOG_ODDS,
    Reading.PROBABILITY: PROBABILITY,
    Reading.LOG_PROBABILITY: LOG_PROBABILITY,
}


def answers(table: DecisionTable) -> Array:
    """[pair, side, answer] probability of a favorable, an unfavorable and any other answer."""
    known = values(table)
    other = np.clip(1 - known["coverage"], 0, 1)
    return np.stack([known["p_favorable"], known["p_unfavorable"], other], axis=-1)


def kl(p: Array, q: Array) -> Array:
    """Kullback-Leibler divergence of q from p over the last axis, in nats; infinite where q rules out what p allows.

    Over answers instead of the whole vocabulary it is a lower bound (data-processing inequality).
    """
    return np.asarray(rel_entr(p, q).sum(axis=-1))


def jensen_shannon(p: Array, q: Array) -> Array:
    """Jensen-Shannon divergence over the last axis, in nats: symmetric, at most log 2."""
    middle = (p + q) / 2
    return (kl(p, middle) + kl(q, middle)) / 2


def rank(scores: Array, index: int) -> Array:
    """[..., answer] → rank of one answer among all, 1 for the best; ties count against it."""
    return np.asarray((scores >= scores[..., index, None]).sum(axis=-1))


def expected_value(log_p: Array, amounts: Array) -> Array:
    """[..., answer] log-probabilities of numeric answers → their mean amount, such as an interest rate.

    The probabilities are taken relative to those of the declared answers.
    """
    weights = np.exp(log_p - log_p.max(axis=-1, keepdims=True))
    return np.asarray((weights * amounts).sum(axis=-1) / weights.sum(axis=-1))
