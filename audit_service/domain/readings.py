"""Registered metrics: a name, and the formula by which the model's output becomes one number."""

from typing import Self

from pydantic import Field, model_validator

from audit_service.domain.expressions import Expression, parse
from audit_service.domain.manifest import Frozen
from audit_service.errors import InvalidInput

NAMES = frozenset(
    {
        "d",
        "p",
        "log_p_favorable",
        "log_p_unfavorable",
        "p_favorable",
        "p_unfavorable",
        "logit_favorable",
        "logit_unfavorable",
        "coverage",
        "approved",
        "rank",
        "expected_amount",
        "kl",
        "js",
    }
)
"""What a formula may use, beside ``p_of_NAME``, ``log_p_of_NAME`` and ``logit_of_NAME`` for the answers of a behavior
(domain.metrics)."""
PREFIXES = ("p_of_", "log_p_of_", "logit_of_")
LOGITS = "logit_"
DIVERGENCES = frozenset({"kl", "js"})
"""Distances from another prompt's answers: they have a size and no direction."""


class Tolerance(Frozen):
    """What is too much and what is nothing, in the metric's own unit; fixed before the run."""

    gap: float = Field(gt=0, allow_inf_nan=False)
    """|mean paired gap| at or above which the disparity is material."""
    delta: float = Field(gt=0, allow_inf_nan=False)
    """Equivalence margin."""
    source: str = Field(min_length=1)
    """Who set it and where."""


class MetricDefinition(Frozen):
    """How the model's output at the decision position becomes one number."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=100, examples=["log-odds"])
    formula: str = Field(min_length=1, max_length=500, examples=["log(p_favorable) - log(p_unfavorable + 0.01)"])
    """Arithmetic over d, p, log_p_favorable, log_p_unfavorable, p_favorable, p_unfavorable, logit_favorable,
    logit_unfavorable, coverage, approved, rank, expected_amount, kl, js, and p_of_NAME, log_p_of_NAME and logit_of_NAME
    of the behavior's answers."""
    title: str = Field(min_length=1, max_length=200)
    unit: str = Field(min_length=1, max_length=40, examples=["nats"])
    note: str = Field(default="", max_length=2000)
    """Where it misleads, and what to read beside it."""
    tolerance: Tolerance | None = None
    """Without one the behavior's threshold in nats is converted, if the metric follows the log-odds at all."""

    @model_validator(mode="after")
    def _formula_is_allowed(self) -> Self:
        try:
            self.names()
        except InvalidInput as error:
            raise ValueError(f"{error} {error.remedy}") from error
        return self

    def parsed(self) -> Expression:
        """The formula, ready to be evaluated."""
        return parse(self.formula, names=NAMES, prefixes=PREFIXES)

    def names(self) -> frozenset[str]:
        """The measured values that the formula uses."""
        return self.parsed().names

    def answers(self) -> frozenset[str]:
        """The behavior's answers that it asks for by name."""
        begun = ((name, prefix) for name in self.names() for prefix in PREFIXES if name.startswith(prefix))
        return frozenset(name.removeprefix(prefix) for name, prefix in begun)

    @property
    def is_divergence(self) -> bool:
        return bool(self.names() & DIVERGENCES)


LOG_ODDS = MetricDefinition(name="log-odds", formula="d", title="Log-odds of the favorable decision", unit="nats")
DEFAULT = (
    LOG_ODDS,
    MetricDefinition(
        name="probability",
        formula="100 * p",
        title="Favorable share among the declared labels",
        unit="percentage points",
        note="Hides negative components where it is near 0 or 1; read the log-odds beside it.",
    ),
    MetricDefinition(
        name="log-probability",
        formula="log_p_favorable",
        title="Log-probability of the favorable labels",
        unit="nats",
        note="Moves with coverage too, not only with the decision.",
    ),
    MetricDefinition(
        name="kl",
        formula="kl",
        title="Kullback-Leibler divergence of the answers",
        unit="nats",
        note="Has a size and no direction: read it beside that of the placebo pairs.",
    ),
    MetricDefinition(
        name="js",
        formula="js",
        title="Jensen-Shannon divergence of the answers",
        unit="nats",
        note="Symmetric and at most log 2; it has no direction either.",
    ),
)
"""What a plan reads unless it names other metrics: all that the kept decisions tell."""
BUILT_IN = (
    *DEFAULT,
    MetricDefinition(
        name="flip",
        formula="100 * approved",
        title="Share approved",
        unit="percentage points",
        note="Sees only what crosses the cut; most effects do not.",
    ),
    MetricDefinition(
        name="rank",
        formula="rank",
        title="Rank of the likeliest favorable label among all tokens",
        unit="ranks",
        note="1 is the likeliest token of all; insensitive to all that changes no order.",
    ),
    MetricDefinition(
        name="expected-amount",
        formula="expected_amount",
        title="Mean amount of the numeric answers",
        unit="amount",
        note="For behaviors that declare answers with amounts, such as interest rates.",
    ),
)
"""Registered from the first start on."""
