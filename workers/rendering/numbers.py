"""How numbers look in print. Rounding happens here and nowhere else."""

from datetime import UTC, datetime

from audit_service.domain.results import Result

MINUS, NO_BREAK = "\u2212", "\u00a0"
_SIGNED = {"nats": 3, "percentage points": 1}
_PLAIN = {"ratio": 2, "1": 2}


def _typeset(text: str) -> str:
    return text.replace("-", MINUS)


def signed(value: float, *, places: int) -> str:
    """With its sign, except for what rounds to zero: a rounded zero has none."""
    text = f"{value:+.{places}f}"
    return _typeset(text if float(text) else text[1:])


def p_text(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def percent(share: float) -> str:
    return _typeset(f"{100 * share:.1f}{NO_BREAK}%")


def quantity(value: float, unit: str) -> str:
    """A value in its unit's usual precision; the unit itself is not part of the text, except for %.

    Nats carry three places, percentage points one, shares one place of a per cent.
    """
    if unit in _SIGNED:
        return signed(value, places=_SIGNED[unit])
    if unit == "share":
        return percent(value)
    if unit == "count":
        return f"{value:,.0f}"
    if unit == "p":
        return p_text(value)
    return _typeset(f"{value:.{_PLAIN.get(unit, 2)}f}")


def interval(result: Result) -> str:
    """The bounds in brackets, or nothing where the method gives none."""
    if result.low is None or result.high is None:
        return ""
    return f"[{quantity(result.low, result.unit)}, {quantity(result.high, result.unit)}]"


def criterion(value: float) -> str:
    """A number that was fixed before the run, as it was written down."""
    return _typeset(f"{value:g}")


def deviation(value: float) -> str:
    """A control's deviation: zero is said as zero, the rest in powers of ten."""
    return "0" if value == 0 else _typeset(f"{value:.1e}")


def moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def day(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d}"


def short(digest: str) -> str:
    """The first 16 digits; the reproduction appendix prints all 64."""
    return digest[:16]
