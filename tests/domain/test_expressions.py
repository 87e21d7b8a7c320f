import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from audit_service.domain.expressions import DEEPEST, MOST_VALUES, parse
from audit_service.errors import InvalidInput

NAMES = ("a", "b", "p_yes")
VALUES = {"a": np.array([1.0, 2.0]), "b": np.array([3.0, -4.0]), "p_yes": np.array([0.2, 0.9])}


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("a + 2*b", VALUES["a"] + 2 * VALUES["b"]),
        ("-(a - b) / 2", -(VALUES["a"] - VALUES["b"]) / 2),
        ("b**2 + a ** -1", VALUES["b"] ** 2 + 1 / VALUES["a"]),
        ("log(p_yes) - log(1 - p_yes)", np.log(VALUES["p_yes"] / (1 - VALUES["p_yes"]))),
        ("sigmoid(a)", expit(VALUES["a"])),
        ("max(a, b, 1.5)", np.array([3.0, 2.0])),
        ("min(a, abs(b))", np.array([1.0, 2.0])),
        ("logsumexp(a, b)", np.logaddexp(VALUES["a"], VALUES["b"])),
        ("logsumexp(a, b, 1)", np.log(np.exp(VALUES["a"]) + np.exp(VALUES["b"]) + np.e)),
        ("logsumexp(log(a - a), log(a - a))", np.full(2, -np.inf)),
        ("min(a)", VALUES["a"]),
        ("sqrt(exp(a))", np.exp(VALUES["a"] / 2)),
        ("0 * a + 3", np.array([3.0, 3.0])),
    ],
)
def test_formulas_mean_what_they_say(formula: str, expected: np.ndarray) -> None:
    np.testing.assert_allclose(parse(formula, names=NAMES)(VALUES), expected)


def test_a_formula_without_a_value_is_nan_or_infinite_and_no_warning() -> None:
    assert np.isnan(parse("log(b)", names=NAMES)(VALUES)[1])
    assert np.isinf(parse("a / (a - a)", names=NAMES)(VALUES)).all()
    assert np.isinf(parse("exp(exp(exp(a + 9)))", names=NAMES)(VALUES)).all()


def test_a_formula_knows_which_names_it_uses() -> None:
    assert parse("a + log(p_yes)", names=NAMES).names == {"a", "p_yes"}


@pytest.mark.parametrize(
    "hostile",
    [
        "__import__('os').system('true')",
        "a.__class__.__mro__",
        "a[0]",
        "open('/etc/passwd')",
        "(lambda: a)()",
        "[a for a in (1, 2)]",
        "{a: b}",
        "a if b else 1",
        "a and b",
        "a < b",
        "not a",
        "~a",
        "a @ b",
        "a // b",
        "a % b",
        "a << 99",
        "a := 3",
        "'text' * 1000",
        "b'x'",
        "f'{a}'",
        "True",
        "True + a",
        "None",
        "...",
        "1j * a",
        "a ** 9",
        "a ** b",
        "9**9**9 + a",
        "a ** 8 ** 8",
        "1e300 * a",
        "10000000000 * a",
        "exec(a)",
        "eval('a')",
        "log",
        "log()",
        "log(a, b)",
        "max()",
        "max(*a)",
        "max(" + "a," * MOST_VALUES + "a)",
        "log(x=a)",
        "unknown + a",
        "await a",
        "yield a",
        "print(a)",
        "",
        "   ",
        "a b",
        "a; b",
        "a\nb",
        "a\x00",
        "3 + 4",
        "(" * 300 + "a" + ")" * 150,
        "-" * 400 + "a",
        "+".join(["a"] * 240),
        "a" * 501,
        "log(" * 70 + "a" + ")" * 70,
    ],
)
def test_hostile_or_meaningless_formulas_are_refused_with_a_remedy(hostile: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be used") as refused:
        parse(hostile, names=NAMES)
    assert "p_yes" in refused.value.remedy


@given(st.text(max_size=600))
@settings(max_examples=300, deadline=None)
def test_any_text_is_either_a_formula_of_numbers_or_refused(text: str) -> None:
    try:
        expression = parse(text, names=NAMES)
    except InvalidInput:
        return
    assert expression(VALUES).shape == (2,)


def test_a_long_sum_is_still_a_formula() -> None:
    terms = 30
    np.testing.assert_allclose(parse("+".join(["a**8"] * terms), names=NAMES)(VALUES), terms * VALUES["a"] ** 8)


def test_depth_is_counted_to_the_deepest_part() -> None:
    deepest = "a" + "+a" * (DEEPEST - 3)
    assert math.isfinite(parse(deepest, names=NAMES)(VALUES)[0])
    with pytest.raises(InvalidInput, match="nested too deeply"):
        parse("+" * 3 + "a" + "+a" * (DEEPEST - 1), names=NAMES)


@pytest.mark.parametrize("function", ["min", "max", "logsumexp"])
def test_many_arguments_take_no_more_memory_than_a_few(function: str) -> None:
    many = function + "(" + ",".join(["a"] * MOST_VALUES) + ")"
    nested = f"{function}({many}, {many}, {many})"
    cells = np.ones(200_000)
    formula = parse(nested, names=NAMES)
    tracemalloc.start()
    try:
        formula({"a": cells})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * cells.nbytes
