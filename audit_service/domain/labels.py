"""The tokens that stand for a decision's two answers."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

from audit_service.domain.behaviors import Labels
from audit_service.errors import InvalidBehavior

Tokens = tuple[int, ...]


class LabelTokens(NamedTuple):
    """The token sequences of the labels' spellings, ascending and without repetition; none begins another."""

    favorable: tuple[Tokens, ...]
    unfavorable: tuple[Tokens, ...]

    @classmethod
    def single(cls, *, favorable: Sequence[int], unfavorable: Sequence[int]) -> "LabelTokens":
        """Labels of one token each."""
        return cls(tuple((token,) for token in favorable), tuple((token,) for token in unfavorable))

    @property
    def sequences(self) -> tuple[Tokens, ...]:
        """Favorable labels first."""
        return self.favorable + self.unfavorable

    @property
    def firsts(self) -> Tokens:
        """First token of each label."""
        return tuple(sequence[0] for sequence in self.sequences)

    @property
    def beginnings(self) -> tuple[Tokens, ...]:
        """What a model must have read, beside the prompt, to say how likely each label is: () and all beginnings.

        Each once and every one behind its own beginnings; () alone for labels of one token.
        """
        return tuple(sorted({sequence[:end] for sequence in self.sequences for end in range(len(sequence))}))

    @property
    def behind(self) -> int:
        """How many tokens the longest label's beginning puts behind the prompt."""
        return max(map(len, self.beginnings))


def label_tokens(encode: Callable[[str], Sequence[int]], labels: Labels, *, unknown: int | None) -> LabelTokens:
    """Encode both labels; ``encode`` gives a text's token ids without special tokens, ``unknown`` is one of them.

    Raises:
        InvalidBehavior: a spelling has no tokens or an unknown one, or one label begins another; each is named.
    """
    sides = [
        {spelling: tuple(encode(spelling)) for spelling in spellings}
        for spellings in (labels.favorable, labels.unfavorable)
    ]
    spelled = [(spelling, ids) for side in sides for spelling, ids in side.items()]
    wrong = [
        f"{spelling!r} is {'unknown' if ids else 'no token at all'}"
        for spelling, ids in spelled
        if not ids or unknown in ids
    ]
    if wrong:
        raise InvalidBehavior(
            "This model's tokenizer cannot express some spellings of the labels.",
            remedy="Declare spellings that the tokenizer knows, such as ' Yes' with its leading space after 'Answer:'.",
            details=wrong,
        )
    found = LabelTokens(*(tuple(sorted(set(side.values()))) for side in sides))
    require_distinct(found, {ids: spelling for spelling, ids in reversed(spelled)})
    return found


def require_distinct(labels: LabelTokens, spellings: dict[Tokens, str]) -> None:
    """Raise InvalidBehavior where the probability of one label would be counted in another's too."""
    same = [f"{spellings[ids]!r} stands on both sides" for ids in labels.favorable if ids in labels.unfavorable]
    begun = [f"{spellings[one]!r} begins {spellings[other]!r}" for one, other in _begun(labels)]
    if same or begun:
        raise InvalidBehavior(
            "Labels collide in this model's tokens: one is the beginning of another, or the same as another.",
            remedy="Declare spellings of which none begins another; the longer one is counted in the shorter already.",
            details=same + begun,
        )


def _begun(labels: LabelTokens) -> Iterator[tuple[Tokens, Tokens]]:
    for one, other in product(labels.sequences, repeat=2):
        if len(one) < len(other) and other[: len(one)] == one:
            yield one, other


def class_numbers(names: Sequence[str], labels: Labels) -> LabelTokens:
    """The classes that a classifier's labels name, by name or by number.

    Each class is one "token"; d is then the favorable classes' log-odds against all others (METHOD.md section 1).

    Raises:
        InvalidBehavior: a label is no class of the model, or the labels do not name each class once.
    """
    numbers = {name: number for number, name in enumerate(names)}
    numbers |= {str(number): number for number in range(len(names)) if str(number) not in numbers}
    known = f"Name each of the model's classes once, by name or number: {', '.join(map(repr, names))}."
    sides = (labels.favorable, labels.unfavorable)
    if unknown := [label for side in sides for label in side if label not in numbers]:
        raise InvalidBehavior("Some labels are no classes of this classifier.", remedy=known, details=unknown)
    favorable, unfavorable = (tuple(sorted({numbers[label] for label in side})) for side in sides)
    if sorted(favorable + unfavorable) != list(range(len(names))):
        raise InvalidBehavior(
            f"The labels name the classes {favorable} and {unfavorable} of {len(names)}.",
            remedy=known,
            details=[names[number] for number in range(len(names)) if number not in favorable + unfavorable],
        )
    return LabelTokens.single(favorable=favorable, unfavorable=unfavorable)
