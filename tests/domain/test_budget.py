"""What is within a budget."""

import pytest
from pydantic import ValidationError

from audit_service.domain.budget import Budget, Price


def test_all_prices_together_are_within_every_limit() -> None:
    prices = Price(forward_equivalents=10, minutes=2), Price(forward_equivalents=5, minutes=1)
    assert Budget(minutes=3, forward_equivalents=15).holds(*prices)
    assert not Budget(minutes=2.9, forward_equivalents=15).holds(*prices)
    assert not Budget(minutes=3, forward_equivalents=14.9).holds(*prices)
    assert Budget(minutes=1).holds()


def test_a_time_that_nobody_knows_is_within_no_minutes() -> None:
    unknown = Price(forward_equivalents=1)
    assert not Budget(minutes=1e9).holds(unknown)
    assert Budget(forward_equivalents=1).holds(unknown)


@pytest.mark.parametrize("limits", [{}, {"minutes": 0.0}, {"forward_equivalents": -1.0}, {"minutes": float("inf")}])
def test_a_budget_limits_something_by_a_positive_number(limits: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Budget(**limits)
