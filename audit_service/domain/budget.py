"""How much may be computed, and what something takes."""

from typing import Self

from pydantic import Field, model_validator

from audit_service.domain.manifest import Frozen


class Price(Frozen):
    """What tracing takes, decisions and controls included."""

    forward_equivalents: float
    minutes: float | None = None
    """On the fastest kind of worker that has run the model; None before any has."""


class Budget(Frozen):
    """How much a plan may compute. Both limits hold where both are given."""

    minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Of one worker, on the fastest kind that has run the model; judging and the report come on top."""
    forward_equivalents: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Passes over a whole prompt; the same on every machine."""

    @model_validator(mode="after")
    def _something_is_limited(self) -> Self:
        if self.minutes is None and self.forward_equivalents is None:
            raise ValueError("a budget has minutes, forward_equivalents, or both")
        return self

    def holds(self, *prices: Price) -> bool:
        """Whether all of the prices together are within the budget; one without a known time is not within minutes."""
        passes = sum(price.forward_equivalents for price in prices)
        if self.forward_equivalents is not None and passes > self.forward_equivalents:
            return False
        if self.minutes is None:
            return True
        minutes = [price.minutes for price in prices if price.minutes is not None]
        return len(minutes) == len(prices) and sum(minutes) <= self.minutes
