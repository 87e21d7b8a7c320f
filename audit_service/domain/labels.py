"""The tokens that stand for a decision's two answers."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from audit_service.domain.behaviors import Labels
from audit_service.errors import InvalidBehavior


class LabelTokens(NamedTuple):
    """Token ids of the labels' spellings, ascending and without repetition."""

    favorable: tuple[int, ...]
    unfavorable: tuple[int, ...]


def label_tokens(encode: Callable[[str], Sequence[int]], labels: Labels, *, unknown: int | None) -> LabelTokens:
    """Encode both labels; ``encode`` gives a text's token ids without special tokens, ``unknown`` is one of them.

    Raises:
        InvalidBehavior: a spelling is not one known token, or a token stands for both answers; each is named.
    """
    favorable, unfavorable = (
        {spelling: list(encode(spelling)) for spelling in spellings}
        for spellings in (labels.favorable, labels.unfavorable)
    )
    wrong = [
        f"{spelling!r} is {len(ids)} tokens" if len(ids) != 1 else f"{spelling!r} is unknown"
        for spelling, ids in [*favorable.items(), *unfavorable.items()]
        if len(ids) != 1 or ids[0] == unknown
    ]
    if wrong:
        raise InvalidBehavior(
            "This model's tokenizer cannot express some spellings of the labels as one known token.",
            remedy="Declare spellings of one token each, such as ' Yes' with its leading space after 'Answer:'.",
            details=wrong,
        )
    first = {ids[0]: spelling for spelling, ids in favorable.items()}
    if shared := [f"{first[ids[0]]!r} and {spelling!r}" for spelling, ids in unfavorable.items() if ids[0] in first]:
        raise InvalidBehavior(
            "A favorable and an unfavorable label begin with the same token.",
            remedy="Declare spellings whose first tokens differ.",
            details=shared,
        )
    return LabelTokens(*(tuple(sorted({ids[0] for ids in side.values()})) for side in (favorable, unfavorable)))
