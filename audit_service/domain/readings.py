"""Registered metrics: a name, and which reading of the model's output it stands for."""

from enum import StrEnum

from pydantic import Field

from audit_service.domain.manifest import Frozen


class Reading(StrEnum):
    """The readings that are defined (METHOD.md section 1); ``domain.metrics`` computes them."""

    LOG_ODDS = "log_odds"
    """d: logsumexp(favorable) - logsumexp(unfavorable), in nats."""
    PROBABILITY = "probability"
    """p = sigmoid(d): favorable share among the declared labels."""
    LOG_PROBABILITY = "log_probability"
    """log P(favorable) over the whole vocabulary, in nats."""


class MetricDefinition(Frozen):
    """How the model's output at the decision position becomes one number."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=100, examples=["log-odds"])
    reading: Reading
    title: str = Field(min_length=1, max_length=200)
    unit: str = Field(min_length=1, max_length=40, examples=["nats"])
    note: str = Field(default="", max_length=2000)
    """Where it misleads, and what to read beside it."""


BUILT_IN = (
    MetricDefinition(
        name="log-odds", reading=Reading.LOG_ODDS, title="Log-odds of the favorable decision", unit="nats"
    ),
    MetricDefinition(
        name="probability",
        reading=Reading.PROBABILITY,
        title="Favorable share among the declared labels",
        unit="percentage points",
        note="Hides negative components where it is near 0 or 1; read the log-odds beside it.",
    ),
    MetricDefinition(
        name="log-probability",
        reading=Reading.LOG_PROBABILITY,
        title="Log-probability of the favorable labels",
        unit="nats",
        note="Moves with coverage too, not only with the decision.",
    ),
)
"""Version 1 of these is there from the first migration on."""
