"""Metrics: a number per prompt, read from the kept cells without another run of the model (METHOD.md section 4).

A formula may use, of each prompt: ``d`` (log-odds), ``p`` = sigmoid(d), ``log_p_…`` and ``p_…`` of ``favorable`` and
``unfavorable`` labels, their sum ``coverage``, ``approved`` (1 where d exceeds the behavior's cut), and where they were
read ``rank`` (place of the likeliest favorable label among all tokens), ``logit_…`` of both kinds of labels (logsumexp
of their logits, unnormalised), ``log_p_of_NAME``, ``p_of_NAME`` and ``logit_of_NAME`` of the behavior's numeric answers
with their mean ``expected_amount``, and ``kl`` and ``js``, distances from another prompt's
answers: at the decision those of the reference prompt from the comparison prompt, over favorable, unfavorable and any
other answer; in a trace those of a run from its donor, over the whole vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from scipy.special import expit, rel_entr

from audit_service.domain.behaviors import Behavior
from audit_service.domain.cells import COMPARISON, Cells, DecisionTable, EffectTable
from audit_service.domain.expressions import Expression
from audit_service.domain.readings import LOG_ODDS as LOG_ODDS_DEFINITION
from audit_service.domain.readings import MetricDefinition
from audit_service.domain.uncertainty import Array

STEP = 1e-3
"""Nats by which the slope of a metric is taken, to either side."""
FOLLOWS = frozenset({"d", "p", "log_p_favorable", "log_p_unfavorable", "p_favorable", "p_unfavorable", "coverage"})
"""Values that are known for any log-odds at the coverage that a prompt has; only these give a metric a slope."""
ANSWER = "log_p_of_"
TOTAL = "log_total"
"""logsumexp of all logits at the decision, kept where a metric asks for a logit."""


class Margins(NamedTuple):
    """What is too much and what is nothing, in a metric's unit."""

    threshold: float
    delta: float


@dataclass(frozen=True, slots=True)
class Metric:
    """A definition on a behavior: its formula with the cut and the amounts that it may ask for."""

    definition: MetricDefinition
    expression: Expression
    cut: float = 0.0
    amounts: Mapping[str, float] = field(default_factory=dict)
    """Answer → amount."""

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def unit(self) -> str:
        return self.definition.unit

    def value(self, table: DecisionTable) -> Array:
        """[pair, side]; NaN where the formula has no value. KeyError for a value that was not read."""
        return _finite(self.expression(values(table, cut=self.cut, amounts=self.amounts)))

    def knows(self, table: DecisionTable) -> bool:
        """Whether all that the formula asks for was read."""
        return self.definition.names() <= set(values(table.take(np.arange(0)), cut=self.cut, amounts=self.amounts))

    def margins(self, table: DecisionTable, *, threshold: float, delta: float) -> Margins | None:
        """Threshold and margin in the metric's unit: its own, or those in nats by its mean slope on these prompts.

        None for a divergence, and for a metric that does not follow the log-odds and has none of its own.
        """
        if self.definition.is_divergence:
            return None
        if (own := self.definition.tolerance) is not None:
            return Margins(own.gap, own.delta)
        if self.definition.formula == "d":
            return Margins(threshold, delta)  # its slope is 1, which huge values would lose in rounding
        scale = abs(self.slope(table)) if self.definition.names() <= FOLLOWS else 0.0
        return Margins(threshold * scale, delta * scale) if np.isfinite(scale) and scale > 0 else None

    def slope(self, table: DecisionTable) -> float:
        """Mean change of the metric per nat of log-odds on these prompts, at the coverage they have."""
        lower, upper = (self.value(_shifted(table, step)) for step in (-STEP, STEP))
        return float((upper - lower).mean() / (2 * STEP)) if len(table.pairs) else 1.0

    def under(self, table: EffectTable) -> EffectTable | None:
        """The traces with this metric in place of the log-odds; None if it asks for more than was read.

        Pairs of which the formula has no value are left out.
        """
        known = _named(_traced(table), cut=self.cut, amounts=self.amounts)
        if not self.definition.names() <= set(known):
            return None
        cells = _finite(self.expression(known))
        read = replace(table, patched=cells[:, :-2], d_clean=cells[:, -2], d_corrupt=cells[:, -1], readouts={})
        return read.select(read.finite())


def metric_of(definition: MetricDefinition, behavior: Behavior) -> Metric:
    amounts = {name: answer.amount for name, answer in behavior.answers.items()}
    return Metric(definition, definition.parsed(), behavior.cut, amounts)


LOG_ODDS = Metric(LOG_ODDS_DEFINITION, LOG_ODDS_DEFINITION.parsed())
"""The default (METHOD.md section 1)."""


def values(table: DecisionTable, *, cut: float, amounts: Mapping[str, float]) -> dict[str, Array]:
    """What a formula may use of the prompts of a run, each [pair, side]."""
    cells = {"d": table.d, "log_p_favorable": table.log_p_favorable, "log_p_unfavorable": table.log_p_unfavorable}
    known = _named(cells | dict(table.readouts), cut=cut, amounts=amounts)
    reference, comparison = np.moveaxis(answers(known), 1, 0)
    for name, distance in (("kl", kl), ("js", jensen_shannon)):
        known[name] = np.zeros(table.d.shape)
        known[name][:, 1 - COMPARISON] = distance(reference, comparison)
    return known


def _named(cells: Mapping[str, Cells], *, cut: float, amounts: Mapping[str, float]) -> dict[str, Array]:
    """Cells of any shape, and what follows from them, in double precision."""
    known = {name: array.astype(np.float64) for name, array in cells.items()}
    known["p"], known["approved"] = expit(known["d"]), (known["d"] > cut).astype(np.float64)
    log_p = {name.removeprefix("log_p_"): known[name] for name in known if name.startswith("log_p_")}
    known |= {f"p_{name}": np.exp(values) for name, values in log_p.items()}
    if TOTAL in known:
        known |= {f"logit_{name}": values + known[TOTAL] for name, values in log_p.items()}
    if {"p_favorable", "p_unfavorable"} <= set(known):
        known["coverage"] = known["p_favorable"] + known["p_unfavorable"]
    if amounts and {f"{ANSWER}{name}" for name in amounts} <= set(known):
        answers = np.stack([known[f"{ANSWER}{name}"] for name in amounts], axis=-1)
        known["expected_amount"] = expected_value(answers, np.array(list(amounts.values())))
    return known


def _traced(table: EffectTable) -> dict[str, Cells]:
    """[pair, site + 2] of each readout: the patched runs, then the clean and the corrupt one."""
    d = np.column_stack([table.patched, table.d_clean, table.d_corrupt])
    return {"d": d} | dict(table.readouts)


def _finite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, np.nan)


def _shifted(table: DecisionTable, nats: float) -> DecisionTable:
    """The prompts with their log-odds moved and their coverage kept, in double precision."""
    d = table.d.astype(np.float64) + nats
    coverage = np.log(table.coverage)
    return DecisionTable(table.pairs, d, coverage - np.logaddexp(0, -d), coverage - np.logaddexp(0, d), table.readouts)


def answers(known: Mapping[str, Array]) -> Array:
    """[pair, side, answer] probability of a favorable, an unfavorable and any other answer."""
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


def expected_value(log_p: Array, amounts: Array) -> Array:
    """[..., answer] log-probabilities of numeric answers → their mean amount, such as an interest rate.

    The probabilities are taken relative to those of the declared answers.
    """
    weights = np.exp(log_p - log_p.max(axis=-1, keepdims=True))
    return np.asarray((weights * amounts).sum(axis=-1) / weights.sum(axis=-1))
