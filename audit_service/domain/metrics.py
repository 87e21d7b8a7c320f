"""Metrics: a number per prompt, read from the kept cells without another run of the model."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from audit_service.domain.cells import DecisionTable
from audit_service.domain.readings import Reading
from audit_service.domain.uncertainty import Array


@dataclass(frozen=True, slots=True)
class Metric:
    """A decision value per prompt, and how a threshold in log-odds reads in its unit."""

    reading: Reading
    unit: str
    value: Callable[[DecisionTable], Array]
    """[pair, side]"""
    slope: Callable[[DecisionTable], float]
    """Mean change of the metric per nat of log-odds on these prompts: what converts threshold and margin."""


def _odds(table: DecisionTable) -> Array:
    return table.d.astype(np.float64)


def _percent(table: DecisionTable) -> Array:
    return 100 * expit(_odds(table))


def _log_p(table: DecisionTable) -> Array:
    return table.log_p_favorable.astype(np.float64)


def _percent_slope(table: DecisionTable) -> float:
    p = expit(_odds(table))
    return float(100 * (p * (1 - p)).mean())


def _log_p_slope(table: DecisionTable) -> float:
    return float(expit(-_odds(table)).mean())


LOG_ODDS = Metric(Reading.LOG_ODDS, "nats", _odds, lambda _: 1.0)
"""d, the default (METHOD.md section 1)."""
PROBABILITY = Metric(Reading.PROBABILITY, "percentage points", _percent, _percent_slope)
"""p = sigmoid(d); hides effects near 0 and 1."""
LOG_PROBABILITY = Metric(Reading.LOG_PROBABILITY, "nats", _log_p, _log_p_slope)
"""Log of the favorable labels' probability; coverage moves it too."""
METRICS = {metric.reading: metric for metric in (LOG_ODDS, PROBABILITY, LOG_PROBABILITY)}
