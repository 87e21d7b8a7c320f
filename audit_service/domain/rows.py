"""From estimates to rows that may be printed."""

from audit_service.domain.results import Outcome, Result
from audit_service.domain.sentences import say
from audit_service.domain.uncertainty import Estimate

OUTCOMES = {"reason.undefined": Outcome.UNDEFINED, "reason.denominator": Outcome.REFUSED}
"""Why there is no value → what that is called; everything else was not measured."""


def row(
    key: str,
    estimate: Estimate,
    *,
    unit: str,
    n: int | None = None,
    p_value: float | None = None,
    **values: float | str,
) -> Result:
    """The estimate under its key; ``values`` fill the sentence that says why something is missing."""
    issue = estimate.issue
    outcome = Outcome.MEASURED if estimate.value is not None else OUTCOMES.get(issue or "", Outcome.NOT_MEASURED)
    return Result(
        key=key,
        outcome=outcome,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        unit=unit,
        n=n,
        p_value=p_value,
        method=estimate.method,
        reason=None if issue is None else say(issue, **values),
    )


def plain(key: str, value: float | None, *, unit: str, method: str, n: int | None = None) -> Result:
    """A number without an interval: a count, a p value; None where it was not measured."""
    issue = None if value is not None else "reason.not_measured"
    return row(key, Estimate(value, None, None, method, issue), unit=unit, n=n)


def count(key: str, value: int, method: str) -> Result:
    return plain(key, float(value), unit="count", method=method)
