"""Prompts that begin alike: which of them are computed whole, and which go on from another's beginning."""

from collections.abc import Hashable, Iterator, Sequence
from itertools import takewhile
from typing import Generic, NamedTuple, TypeVar

Token = TypeVar("Token", bound=Hashable)


class Continuation(NamedTuple, Generic[Token]):
    """A prompt, and how much of its beginning stands in the one that it goes on from."""

    ids: tuple[Token, ...]
    shared: int


def first_difference(one: Sequence[Token], other: Sequence[Token]) -> int:
    """Length of the common beginning of two token sequences."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def families(
    ordered: Sequence[tuple[Token, ...]],
) -> Iterator[tuple[tuple[Token, ...], list[Continuation[Token]]]]:
    """Cut sorted prompts into families: a first prompt, and those that go on from its beginning.

    A new family starts where computing one prompt anew costs fewer rows than its followers then save.
    """
    first: tuple[Token, ...] = ()
    others: list[Continuation[Token]] = []
    for i, ids in enumerate(ordered):
        shared = min(first_difference(first, ids), len(ids) - 1)
        if shared and _saved_by_a_new_family(ordered[i:], shared) <= shared:
            others.append(Continuation(ids, shared))
            continue
        if first:
            yield first, others
        first, others = ids, []
    if first:
        yield first, others


def _saved_by_a_new_family(ordered: Sequence[tuple[Token, ...]], shared: int) -> int:
    """Rows that the followers of the first of these prompts save by going on from it."""
    likeness = (first_difference(ordered[0], ids) for ids in ordered[1:])
    return sum(like - shared for like in takewhile(lambda like: like > shared, likeness))
