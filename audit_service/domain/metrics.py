"""Metrics: how the model's output at the decision position becomes one number."""

from enum import StrEnum

from pydantic import Field

from audit_service.domain.manifest import Frozen


class MetricKind(StrEnum):
    """The readings that are defined (METHOD.md section 1)."""

    LOG_ODDS = "log_odds"
    """d: logsumexp(favorable) - logsumexp(unfavorable), in nats."""
    PROBABILITY = "probability"
    """p = sigmoid(d): favorable share among the declared labels."""
    LOG_PROBABILITY = "log_probability"
    """log P(favorable) over the whole vocabulary, in nats."""
    COVERAGE = "coverage"
    """P(favorable) + P(unfavorable): whether the labels are what the model answers with."""


class Metric(Frozen):
    """A named reading and what it is for."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=100, examples=["log-odds"])
    kind: MetricKind
    title: str = Field(min_length=1, max_length=200)
    unit: str = Field(min_length=1, max_length=40, examples=["nats"])
    note: str = ""
    """Where it misleads, and what to read beside it."""


BUILT_IN = (
    Metric(name="log-odds", kind=MetricKind.LOG_ODDS, title="Log-odds of the favorable decision", unit="nats"),
    Metric(
        name="probability",
        kind=MetricKind.PROBABILITY,
        title="Favorable share among the declared labels",
        unit="share",
        note="Hides negative components where it is near 0 or 1; read the log-odds beside it.",
    ),
    Metric(
        name="log-probability",
        kind=MetricKind.LOG_PROBABILITY,
        title="Log-probability of the favorable labels",
        unit="nats",
        note="Moves with coverage too, not only with the decision.",
    ),
    Metric(name="coverage", kind=MetricKind.COVERAGE, title="Probability on the declared labels", unit="share"),
)
