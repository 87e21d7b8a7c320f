"""Maps of one pair of texts: layer x position, layer x head, and single cells by name."""

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit_service.domain.beginnings import first_difference
from audit_service.domain.labels import LabelTokens
from audit_service.domain.plan import Mapping
from audit_service.domain.sitenames import sites_named
from audit_service.domain.sites import ALL, DECISION, HEAD_KINDS, Site, SiteKind
from audit_service.errors import InvalidTrace
from workers.engine.changes import Part, Value
from workers.engine.distributions import READOUTS, Readouts
from workers.engine.donors import Recording
from workers.engine.patching import patch_together, read_together
from workers.engine.placing import heads_of
from workers.engine.positions import Exchange, exchange_of
from workers.engine.progress import Keep, Progress, StopCheck, Tally, never_stop, no_progress
from workers.engine.subject import Subject
from workers.engine.tokens import EncodedPair, EncodedPrompt

CELLS_AT_ONCE = 256
"""Cells that are measured, and kept on disk, together."""


class Map(NamedTuple):
    """Cells with two axes; the sets are row by row."""

    name: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    sets: tuple[tuple[Exchange, ...], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """[row, column]; cells by name have one axis."""
        return (len(self.rows), len(self.columns)) if self.columns else (len(self.rows),)


class Asked(NamedTuple):
    """What the sites of all maps have in common."""

    recipient: EncodedPrompt
    donor: EncodedPrompt
    mapping: Mapping = Mapping.RIGHT_ALIGNED
    part: Part | None = None
    value: Value | None = None

    def exchange(self, site: Site) -> Exchange:
        return exchange_of(site, self.recipient, self.donor, self.mapping)._replace(part=self.part, value=self.value)


def free_pair(clean: tuple[int, ...], corrupt: tuple[int, ...]) -> EncodedPair:
    """A pair of texts without declared segments: the cue is what lies between their common beginning and end."""
    shared = min(len(clean), len(corrupt)) - 1
    before = min(first_difference(clean, corrupt), shared)
    after = min(first_difference(clean[-2::-1], corrupt[-2::-1]), shared - before)
    sides = (EncodedPrompt(ids, _spans(len(ids), before, after)) for ids in (clean, corrupt))
    return EncodedPair("the two texts", *sides)


def _spans(length: int, before: int, after: int) -> dict[str, tuple[int, ...]]:
    edges = {"before": (0, before), "cue": (before, length - 1 - after), "after": (length - 1 - after, length - 1)}
    return {name: tuple(range(*edge)) for name, edge in edges.items()} | {DECISION: (length - 1,)}


def map_of(subject: Subject, kind: SiteKind, asked: Asked, *, segments: Sequence[str] | None, window: int) -> Map:
    """All layers (windows of layers) of a kind against its positions, or its heads.

    ``segments`` are the columns, each token if there are none; heads are exchanged at each of them, at all
    positions if there are none, in the layers that have any. Raises InvalidTrace for prompts without counterparts and
    windows without layers.
    """
    layers = subject.anatomy.layers
    if not 1 <= window <= layers:
        raise InvalidTrace(f"a window of {window} layers does not fit {layers}", remedy=f"use 1 to {layers}")
    columns = dict(_columns(subject, kind, asked, segments))
    apart = {at for at in range(layers) if kind in HEAD_KINDS and not heads_of(subject.anatomy, kind, at)}
    starts = [start for start in range(layers - window + 1) if not apart.intersection(range(start, start + window))]
    if not starts:
        raise InvalidTrace(f"no {window} neighbouring layers all have heads", remedy="use a narrower window")
    sets = tuple(
        tuple(asked.exchange(Site(kind, layer, head, segment)) for layer in range(start, start + window))
        for start in starts
        for head, segment in columns.values()
    )
    rows = tuple(f"L{start}" if window == 1 else f"L{start}-{start + window - 1}" for start in starts)
    return Map(str(kind), rows, tuple(columns), sets)


def _columns(
    subject: Subject, kind: SiteKind, asked: Asked, segments: Sequence[str] | None
) -> Iterator[tuple[str, tuple[int | None, str]]]:
    if kind in HEAD_KINDS:
        for where in segments or [ALL]:
            named = "" if segments is None or len(segments) == 1 else f" {where}"
            yield from ((f"head {head}{named}", (head, where)) for head in range(heads_of(subject.anatomy, kind)))
    elif segments is not None:
        yield from ((segment, (None, segment)) for segment in segments)
    else:
        _require_counterparts(asked)
        yield from ((f"t{at}", (None, f"t{at}")) for at in range(len(asked.recipient.ids)))


def _require_counterparts(asked: Asked) -> None:
    to, by = len(asked.recipient.ids), len(asked.donor.ids)
    if to != by:
        raise InvalidTrace(
            f"one prompt has {to} tokens and the other {by}, so single positions have no counterpart",
            remedy="use a cue of equal token length, or positions by segment (before, cue, after, decision)",
        )


def cells_named(names: Sequence[str], asked: Asked) -> Map:
    """Cells by the names of their sites (``domain.sitenames``)."""
    sets = tuple(tuple(asked.exchange(site) for site in sites_named(name)) for name in names)
    return Map("cells", tuple(names), (), sets)


def measure(
    subject: Subject,
    sides: Sequence[tuple[Recording, Recording]],
    maps: Sequence[Map],
    *,
    labels: LabelTokens,
    all_readouts: bool,
    keep: Keep,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Map → readout → cells: d alone, or every readout; the mean over sides, which are (recipient, donor) by draw."""
    sets = [each for found in maps for each in found.sets]
    order = sorted(range(len(sets)), key=lambda number: _place(sets[number]))
    chunks = [order[first : first + CELLS_AT_ONCE] for first in range(0, len(order), CELLS_AT_ONCE)]
    total = np.zeros((len(sets), len(READOUTS) if all_readouts else 1))
    work = _Work(subject, sets, labels, all_readouts=all_readouts, should_stop=should_stop)
    tally = Tally(progress, len(sets) * len(sides))
    for draw, (recipient, donor) in enumerate(sides):
        for number, chunk in enumerate(chunks):
            compute = partial(work.cells, recipient, donor, chunk, tally.inside)
            total[chunk] += keep(f"{draw}.{number}", compute) / len(sides)
            tally.finished(len(chunk))
    return _by_map(maps, total.astype(np.float32))


@dataclass(frozen=True, slots=True)
class _Work:
    """What the chunks of a sweep have in common."""

    subject: Subject
    sets: Sequence[Sequence[Exchange]]
    labels: LabelTokens
    _: KW_ONLY
    all_readouts: bool
    should_stop: StopCheck

    def cells(
        self, recipient: Recording, donor: Recording, chunk: Sequence[int], progress: Progress
    ) -> NDArray[np.float32]:
        """What is read [cell, readout] of some of the sets."""
        chosen = [self.sets[number] for number in chunk]
        read = read_together if self.all_readouts else patch_together
        found = read(
            self.subject,
            recipient,
            donor,
            chosen,
            labels=self.labels,
            progress=progress,
            should_stop=self.should_stop,
        )
        columns = [getattr(found, name) for name in READOUTS] if isinstance(found, Readouts) else [found]
        return np.stack(columns, axis=1)


def _by_map(maps: Sequence[Map], table: NDArray[np.float32]) -> dict[str, dict[str, NDArray[np.float32]]]:
    names = READOUTS[: table.shape[1]]
    parts = np.split(table, np.cumsum([len(found.sets) for found in maps])[:-1])
    return {
        found.name: {name: part[:, column].reshape(found.shape) for column, name in enumerate(names)}
        for found, part in zip(maps, parts, strict=True)
    }


def _place(exchanges: Sequence[Exchange]) -> tuple[int, int]:
    """Where a run begins, roughly: neighbours share a flight."""
    return min(min(e.recipient) for e in exchanges), min(e.layer for e in exchanges)
