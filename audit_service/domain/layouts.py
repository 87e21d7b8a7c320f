"""How a form's prompts fall into tokens, and what of them an exchange changes: all that a plan's work is counted from.

The rules are those by which the engine places its runs (workers.engine.placing), here on tokens alone.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from statistics import fmean
from typing import Protocol

from pydantic import Field

from audit_service.domain.decided import Reading, decided
from audit_service.domain.manifest import Frozen
from audit_service.domain.pairs import Pair, Side
from audit_service.domain.plan import Corruption, Direction
from audit_service.domain.sites import ALL, DECISION
from audit_service.domain.work import Work

CHARACTERS_PER_TOKEN = 4
"""Where no tokenizer has been asked."""


class Reach(Frozen):
    """What an exchange changes; means over the pairs in which it changes anything."""

    share: float = 0.0
    """Of the pairs."""
    rows: float = 0.0
    """Tokens from the first that is changed to the end of the prompt."""
    own: float = 0.0
    """Tokens that are exchanged and can differ."""


class Moved(Frozen):
    """What an exchange of one segment changes."""

    anywhere: Reach
    first: Reach
    """In front of the first layer's attention, where equal tokens have equal rows."""
    decides: float
    """Share of the pairs in which the last token is among them."""


class Traced(Frozen):
    """The prompts of a trace; means over pairs."""

    tokens: float
    """Of the run that is patched."""
    other: float
    """Of the prompt on the other side."""
    unequal: float
    """Share of the pairs whose prompts are not of one length."""
    moved: dict[str, Moved]
    """By segment, "all" and "decision" among them; without those that hold no token."""


class Layout(Frozen):
    """How a form's prompts fall into tokens; means over those that were looked at."""

    tokens: float
    """Of a prompt, chat template included."""
    reading: Reading
    decisions: Work
    """Deciding both prompts of so many pairs together."""
    pairs: int = Field(ge=1)
    traced: dict[Corruption, dict[Direction, Traced]]
    """The mean's is that of zero."""


class Prompt(Protocol):
    """One side of a pair in tokens."""

    @property
    def ids(self) -> tuple[Hashable, ...]: ...

    @property
    def spans(self) -> Mapping[str, tuple[int, ...]]:
        """Segment → its positions; the last one stands in "decision"."""


def layout_of(pairs: Sequence[tuple[Prompt, Prompt]], reading: Reading) -> Layout:
    """The layout of pairs of (reference, comparison) prompts, which are decided together."""
    clean, corrupt = ([pair[side] for pair in pairs] for side in (0, 1))
    others = [*corrupt[len(corrupt) // 2 :], *corrupt[: len(corrupt) // 2]]
    noisy = [_Sides(a, a, _unnoised(a, b)) for a, b in pairs]
    blended = [_Sides(a, a, (False,) * len(a.ids)) for a in clean]
    return Layout(
        tokens=fmean(len(prompt.ids) for prompt in (*clean, *corrupt)),
        reading=reading,
        decisions=decided((prompt.ids for prompt in (*clean, *corrupt)), reading),
        pairs=len(pairs),
        traced={
            Corruption.PAIR: _both([_Sides(a, b) for a, b in pairs], reading),
            Corruption.RESAMPLE: _both([_Sides(a, b) for a, b in zip(clean, others, strict=True)], reading),
            Corruption.GAUSSIAN: {way: _traced(noisy, clean, reading) for way in Direction},
            Corruption.ZERO: {Direction.NOISE: _traced(blended, corrupt, reading)},
        },
    )


def by_characters(pairs: Sequence[Pair], *, layers: int) -> Layout:
    """The same where nobody asked a tokenizer: every few characters of a segment are taken for a token."""
    sides = [(_Characters(pair, Side.REFERENCE), _Characters(pair, Side.COMPARISON)) for pair in pairs]
    return layout_of(sides, Reading(layers=layers))


class _Characters:
    """A side of a pair whose tokens are guessed; its last one is the decision."""

    def __init__(self, pair: Pair, side: Side) -> None:
        parts = {part.name: _pieces(part.text(side)) for part in pair.segments}
        self.ids = tuple(chain.from_iterable(parts.values())) or ("",)
        last, begin = len(self.ids) - 1, 0
        self.spans: dict[str, tuple[int, ...]] = {}
        for name, pieces in parts.items():
            self.spans[name] = tuple(at for at in range(begin, begin + len(pieces)) if at != last)
            begin += len(pieces)
        self.spans[DECISION] = (last,)


def _pieces(text: str) -> list[str]:
    return [text[at : at + CHARACTERS_PER_TOKEN] for at in range(0, len(text), CHARACTERS_PER_TOKEN)]


class _Sides:
    """The run that is patched, the one that it takes from, and at which positions both enter the layers alike."""

    def __init__(self, to: Prompt, by: Prompt, same: tuple[bool, ...] | None = None) -> None:
        self.to, self.by = to, by
        self.same = tuple(a == b for a, b in zip(to.ids, by.ids, strict=False)) if same is None else same

    def reversed(self) -> "_Sides":
        return _Sides(self.by, self.to)


def _unnoised(clean: Prompt, corrupt: Prompt) -> tuple[bool, ...]:
    """Noise stands on the segments whose tokens differ."""
    cues = {
        at
        for name, span in clean.spans.items()
        if [clean.ids[p] for p in span] != [corrupt.ids[p] for p in corrupt.spans[name]]
        for at in span
    }
    return tuple(at not in cues for at in range(len(clean.ids)))


def _both(sides: Sequence[_Sides], reading: Reading) -> dict[Direction, Traced]:
    """Of (clean, corrupt) sides: noising patches the clean run, denoising the corrupt one."""
    backwards = [one.reversed() for one in sides]
    return {
        Direction.DENOISE: _traced(backwards, [one.by for one in backwards], reading),
        Direction.NOISE: _traced(sides, [one.by for one in sides], reading),
    }


def _traced(sides: Sequence[_Sides], others: Sequence[Prompt], reading: Reading) -> Traced:
    names = [*dict.fromkeys(name for one in sides for name in one.to.spans), ALL]
    found = {name: _moved(sides, name, reading) for name in names}
    return Traced(
        tokens=fmean(len(one.to.ids) for one in sides),
        other=fmean(len(other.ids) for other in others),
        unequal=fmean(len(one.to.ids) != len(other.ids) for one, other in zip(sides, others, strict=True)),
        moved={name: moved for name, moved in found.items() if moved.anywhere.share},
    )


def _moved(sides: Sequence[_Sides], segment: str, reading: Reading) -> Moved:
    anywhere = [_moves(one, segment, reading) for one in sides]
    first = [_of_other_tokens(one, moves) for one, moves in zip(sides, anywhere, strict=True)]
    lengths = [len(one.to.ids) for one in sides]
    last = [0 if not reading.causal else length - 1 for length in lengths]
    return Moved(
        anywhere=_reach(anywhere, lengths),
        first=_reach(first, lengths),
        decides=fmean(at in [to for to, _ in moves] for at, moves in zip(last, anywhere, strict=True)),
    )


Moves = list[tuple[int, int]]
"""(recipient, donor) positions."""


def _moves(sides: _Sides, segment: str, reading: Reading) -> Moves:
    """The positions whose exchange can change anything behind the first attention: none before the first difference."""
    names = list(sides.to.spans) if segment == ALL else [segment]
    pairs = sorted(chain.from_iterable(_mapped(sides, name) for name in names))
    crossed = (to for to, by in pairs if to != by)
    same = sides.same
    beginning = min((same.index(False) if False in same else len(same), *crossed)) if reading.causal else 0
    return [(to, by) for to, by in pairs if to != by or to >= beginning]


def _mapped(sides: _Sides, name: str) -> Iterator[tuple[int, int]]:
    """Last to last, and so on backwards (plan.Mapping.RIGHT_ALIGNED)."""
    to, by = sides.to.spans.get(name, ()), sides.by.spans.get(name, ())
    shared = min(len(to), len(by))
    return zip(to[len(to) - shared :], by[len(by) - shared :], strict=True)


def _of_other_tokens(sides: _Sides, moves: Moves) -> Moves:
    return [(to, by) for to, by in moves if to != by or to >= len(sides.same) or not sides.same[to]]


def _reach(all_moves: Iterable[Moves], lengths: Sequence[int]) -> Reach:
    found = [(length - min(moves)[0], len(moves)) for moves, length in zip(all_moves, lengths, strict=True) if moves]
    if not found:
        return Reach()
    return Reach(
        share=len(found) / len(lengths), rows=fmean(rows for rows, _ in found), own=fmean(own for _, own in found)
    )
