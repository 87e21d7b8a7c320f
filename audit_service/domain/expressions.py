"""Small safe formulas over named numbers, such as ``log(p_yes) - log(p_no + p_unsure)``.

A formula is parsed by Python's own grammar into a tree, and only arithmetic on the given names and a few functions is
let through: no attributes, no indices, no strings, no calls but those below. Length, depth, arguments and exponents are
bounded, so that a hostile formula can neither run code nor exhaust the machine.
"""

import ast
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from audit_service.errors import InvalidInput

Array = NDArray[np.float64]
"""Of its own: every command reads plans and so formulas, and ``domain.uncertainty`` loads all of scipy.stats."""

LONGEST, DEEPEST, MOST_NODES, MOST_VALUES = 500, 60, 250, 32
LARGEST_NUMBER, LARGEST_EXPONENT = 1e9, 8
OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "log": np.log,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "sigmoid": expit,
    "min": np.minimum,
    "max": np.maximum,
    "logsumexp": np.logaddexp,
}
SEVERAL = frozenset({"min", "max", "logsumexp"})
"""Functions of up to MOST_VALUES values, folded two by two so that few are held at once; the others take one."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked formula."""

    text: str
    names: frozenset[str]
    """The names that it uses."""
    tree: ast.expr

    def __call__(self, values: Mapping[str, Array]) -> Array:
        """The formula's value, elementwise; NaN or infinite where it has none."""
        with np.errstate(all="ignore"):
            result = np.asarray(_value(self.tree, values), dtype=np.float64)
        return np.broadcast_to(result, np.broadcast_shapes(*(value.shape for value in values.values()))).copy()


class _Names(Collection[str]):
    """Given names, and those made of a prefix and something behind it."""

    def __init__(self, names: Collection[str], prefixes: tuple[str, ...]) -> None:
        self._names, self._prefixes = names, prefixes

    def __contains__(self, name: object) -> bool:
        begins = [prefix for prefix in self._prefixes if str(name).startswith(prefix)]
        return name in self._names or any(len(str(name)) > len(prefix) for prefix in begins)

    def __iter__(self) -> Iterator[str]:
        yield from self._names
        yield from (f"{prefix}NAME" for prefix in self._prefixes)

    def __len__(self) -> int:
        return len(self._names) + len(self._prefixes)


def parse(text: str, *, names: Collection[str], prefixes: tuple[str, ...] = ()) -> Expression:
    """The formula over some of the given names, and any that begin with a prefix.

    Raises InvalidInput, which says what is not allowed, and what is.
    """
    names = _Names(names, prefixes)
    if len(text) > LONGEST:
        raise _refused(text[:40] + "…", f"it is longer than {LONGEST} characters", names)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise _refused(text, "it is no formula", names) from error
    nodes = list(ast.walk(tree))
    if len(nodes) > MOST_NODES or _depth(tree) > DEEPEST:
        raise _refused(text, "it is nested too deeply or has too many parts", names)
    used = frozenset(_check(tree, text, names))
    if not used:
        raise _refused(text, "it uses none of the measured values", names)
    return Expression(text, used, tree)


def _depth(tree: ast.AST) -> int:
    level, depth = [tree], 0
    while level:
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        depth += 1
    return depth


def _check(node: ast.expr, text: str, names: Collection[str]) -> set[str]:
    """The names used below the node; raises at the first part that is not allowed."""
    match node:
        case ast.Constant(value=(int() | float()) as value) if _bounded(value, LARGEST_NUMBER):
            return set()
        case ast.Name(id=name) if name in names:
            return {name}
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return _check(operand, text, names)
        case ast.BinOp(op=ast.Pow(), left=left, right=right):
            _check_exponent(right, text, names)
            return _check(left, text, names)
        case ast.BinOp(op=kind, left=left, right=right) if type(kind) in OPERATORS:
            return _check(left, text, names) | _check(right, text, names)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if _callable(name, args):
            return set().union(*(_check(arg, text, names) for arg in args))
        case _:
            raise _refused(text, f"{ast.unparse(node)[:60]!r} is not allowed", names)


def _check_exponent(node: ast.expr, text: str, names: Collection[str]) -> None:
    match node:
        case ast.Constant(value=(int() | float()) as value) if _bounded(value, LARGEST_EXPONENT):
            return
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            _check_exponent(operand, text, names)
        case _:
            raise _refused(text, f"an exponent must be a number up to {LARGEST_EXPONENT}", names)


def _bounded(value: float, largest: float) -> bool:
    return not isinstance(value, bool) and abs(value) <= largest


def _callable(name: str, args: list[ast.expr]) -> bool:
    return name in FUNCTIONS and 1 <= len(args) <= (MOST_VALUES if name in SEVERAL else 1)


def _value(node: ast.expr, values: Mapping[str, Array]) -> Any:  # noqa: ANN401 - a number or an array
    match node:
        case ast.Constant(value=(int() | float()) as value):
            return np.float64(value)
        case ast.Name(id=name):
            return values[name]
        case ast.UnaryOp(op=kind, operand=operand):
            inner = _value(operand, values)
            return -inner if isinstance(kind, ast.USub) else inner
        case ast.BinOp(op=kind, left=left, right=right):
            return OPERATORS[type(kind)](_value(left, values), _value(right, values))
        case ast.Call(func=ast.Name(id=name), args=args):
            given = (_value(arg, values) for arg in args)
            return reduce(FUNCTIONS[name], given) if name in SEVERAL else FUNCTIONS[name](next(given))
        case _:
            raise AssertionError(f"unchecked part {ast.dump(node)}")


def _refused(text: str, reason: str, names: Collection[str]) -> InvalidInput:
    return InvalidInput(
        f"The formula {text[:200]!r} cannot be used: {reason}.",
        remedy=f"Use numbers, + - * / **, {', '.join(sorted(FUNCTIONS))}, and the names {', '.join(sorted(names))}.",
    )
