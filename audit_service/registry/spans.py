"""Whether the cues of pairs have as many tokens on one side as on the other, asked of the model's tokenizer."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from audit_service.domain.pairs import Pair, Side
from audit_service.registry.labels import read_tokenizer

AT_ONCE = 2000


def unequal_spans(folder: Path, pairs: Sequence[Pair]) -> frozenset[str]:
    """Ids of the pairs of which a cue has more tokens on one side; a token that touches a cue belongs to it.

    Counted in the prompt before any chat template, which changes nothing inside it. Raises InvalidModel if the folder's
    tokenizer cannot be read.
    """
    tokenizer = read_tokenizer(folder)
    # Forms repeat the same prompts, so each is encoded once.
    texts = {(pair.segments, side): pair.text(side) for pair in pairs for side in Side}
    keys = list(texts)
    counts: dict[object, tuple[int, ...]] = {}
    for start in range(0, len(keys), AT_ONCE):
        some = keys[start : start + AT_ONCE]
        encoded = tokenizer.encode_batch([texts[key] for key in some], add_special_tokens=False)
        for (segments, side), encoding in zip(some, encoded, strict=True):
            edges = list(accumulate((len(segment.text(side)) for segment in segments), initial=0))
            cues = [(edges[i], edges[i + 1]) for i, segment in enumerate(segments) if segment.is_cue]
            counts[segments, side] = tuple(
                sum(low < end and high > start for low, high in encoding.offsets) for start, end in cues
            )
    sides = (Side.REFERENCE, Side.COMPARISON)
    return frozenset(pair.id for pair in pairs if len({counts[pair.segments, side] for side in sides}) > 1)
