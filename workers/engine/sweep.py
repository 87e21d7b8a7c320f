"""Per-token maps of one pair of texts: layer x position, and layer x head at all positions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit_service.domain.labels import LabelTokens
from audit_service.domain.plan import Direction
from audit_service.domain.sites import HEAD_KINDS, SiteKind
from audit_service.errors import InvalidTrace
from workers.engine.answers import unpatched
from workers.engine.donors import record
from workers.engine.patching import patch
from workers.engine.placing import heads_of
from workers.engine.positions import Exchange
from workers.engine.progress import Progress, StopCheck, never_stop, no_progress
from workers.engine.subject import Subject


class Sweep(NamedTuple):
    """Patched decision values of one pair at every place, in nats."""

    patched: dict[SiteKind, NDArray[np.float32]]
    """[layer, position] for each kind, [layer, head] for head kinds (exchanged at all positions)."""
    clean: float
    corrupt: float


def sweep_tokens(
    subject: Subject,
    clean: tuple[int, ...],
    corrupt: tuple[int, ...],
    kinds: Sequence[SiteKind],
    *,
    direction: Direction,
    labels: LabelTokens,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> Sweep:
    """Patch every layer and position (every head, for head kinds) of two prompts of equal length, one at a time.

    Raises InvalidTrace naming the lengths if they differ, since single positions then have no counterpart, and for
    prompts that do not differ at all.
    """
    if clean == corrupt:
        raise InvalidTrace(
            "the clean and the corrupt prompt have the same tokens, so no patch could change anything",
            remedy="give two texts that this model's tokenizer tells apart",
        )
    if len(clean) != len(corrupt):
        raise InvalidTrace(
            f"the clean prompt has {len(clean)} tokens and the corrupt one {len(corrupt)}, so single positions have no "
            "counterpart",
            remedy="use a cue of equal token length, or audit segments with a pair set instead",
        )
    neurons = SiteKind.NEURONS in kinds
    recordings = {ids: record(subject, ids, neurons=neurons, should_stop=should_stop) for ids in (clean, corrupt)}
    to, by = (corrupt, clean) if direction is Direction.DENOISE else (clean, corrupt)
    places = {kind: _places(subject, kind, len(clean)) for kind in kinds}
    cells = patch(
        subject,
        recordings[to],
        recordings[by],
        [exchange for kind in kinds for exchange in places[kind]],
        labels=labels,
        progress=progress,
        should_stop=should_stop,
    )
    ends = np.cumsum([len(places[kind]) for kind in kinds])[:-1]
    maps = [part.reshape(subject.anatomy.layers, -1) for part in np.split(cells, ends)]
    decisions = unpatched(subject, [recordings[ids] for ids in (clean, corrupt)], labels)
    return Sweep(dict(zip(kinds, maps, strict=True)), *decisions.tolist())


def _places(subject: Subject, kind: SiteKind, length: int) -> list[Exchange]:
    layers, everywhere = range(subject.anatomy.layers), tuple(range(length))
    if kind in HEAD_KINDS:
        heads = range(heads_of(subject.anatomy, kind))
        return [Exchange(kind, layer, head, everywhere, everywhere) for layer in layers for head in heads]
    return [Exchange(kind, layer, None, (at,), (at,)) for layer in layers for at in everywhere]
