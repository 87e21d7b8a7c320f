"""How much is computed, counted without computing it: rows through layers, attention, passes of flights.

Most time goes into the layers' matrix products, so it follows the rows that pass through layers; each pass of a flight
through a layer has a price of its own besides, which is what makes many small flights dear.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from audit_service.domain.manifest import Frozen

ROWS_IN_FLIGHT = 2048
"""Packed rows per flight: enough for large matrix products, few enough for the activations to stay in the caches."""
MOST_SCORES = 1 << 24
"""Attention scores that are in memory at once (64 MiB in float32), so that long prompts need no quadratic memory."""
SCORE_BYTES = 12
"""Of one attention score: the product, its softmax and the copy that joins prefix and own rows, in float32."""


class Work(Frozen):
    """What is computed."""

    layer_rows: float = 0.0
    """Rows times layers through which they pass whole."""
    last_rows: float = 0.0
    """Rows of last layers of which no more than keys and values is needed."""
    attended: float = 0.0
    """Pairs of a query's and a key's position, times layers."""
    layer_calls: float = 0.0
    """Passes of flights through layers."""
    groups: float = 0.0
    """Groups of runs that attend together, times layers: those of a flight that start at one position."""
    entries: float = 0.0
    """Prompts that are embedded, with their masks and positions."""
    cells: float = 0.0
    """Patched runs."""
    vocabulary_rows: float = 0.0
    """Rows that are read over the whole vocabulary, not at the labels alone."""

    def times(self, count: float) -> "Work":
        """The same several times."""
        return Work(**{name: count * getattr(self, name) for name in Work.model_fields})

    @classmethod
    def total(cls, parts: Iterable["Work"]) -> "Work":
        """All of it."""
        table = list(parts)
        return cls(**{name: sum(getattr(part, name) for part in table) for name in cls.model_fields})

    def passes(self, *, layers: int, tokens: float) -> float:
        """The rows in units of one whole pass over a prompt."""
        return self.layer_rows / (layers * tokens)


class Resumed(NamedTuple):
    """A patched run: what of it is computed."""

    rows: float
    """From its first changed position to the end."""
    joins: int
    """Layer at which it starts; the number of layers if none changes it."""
    ahead: float = 0
    """Rows that alone are changed in the layer below, behind its attention."""
    share: float = 1.0
    """How much of the run there is: less than one for means over pairs of which some need none."""

    @property
    def first_layer(self) -> int:
        """The lowest layer at which anything is computed."""
        return self.joins - bool(self.ahead)


def flight_bytes(rows: int, tokens: float, *, row_bytes: int, heads: int) -> int:
    """Memory of a flight of so many rows of prompts with so many tokens."""
    return int(rows * row_bytes + SCORE_BYTES * min(rows * heads * tokens, MOST_SCORES))


def largest_flight(memory: int, tokens: float, *, row_bytes: int, heads: int) -> int:
    """Rows of the largest flight that pays and that the memory holds; one run flies in any case.

    A power of two, so that a little more or less free memory packs no runs otherwise: packing decides the last bits.
    """
    with_scores = int(memory // (row_bytes + SCORE_BYTES * heads * tokens))
    beside_scores = (memory - SCORE_BYTES * MOST_SCORES) // row_bytes
    fitting = max(1, min(ROWS_IN_FLIGHT, max(with_scores, beside_scores)))
    return 1 << (fitting.bit_length() - 1)


class Frame(NamedTuple):
    """What runs that are flown together have in common."""

    layers: int
    tokens: float
    """Of a run, the labels' rows behind the prompt included."""
    tails: float = 1
    """Rows of each run that are read."""
    packs: bool = True
    """Whether runs that join at different layers fly together."""
    resumes: bool = True
    """Whether runs start at their first changed position, and the last layer computes no more than what is read."""
    at_once: float = ROWS_IN_FLIGHT

    def whole(self, run: Resumed) -> float:
        """Rows of a run that pass through layers whole."""
        last = self.tails if self.resumes else run.rows
        return run.rows * max(0, self.layers - 1 - run.joins) + last * (run.joins < self.layers)


def whole_pass(tokens: float, *, layers: int) -> Work:
    """One prompt through every layer, all of it kept."""
    return Work(layer_rows=layers * tokens, attended=layers * tokens * tokens, layer_calls=layers, groups=layers,
                entries=1)  # fmt: skip


def sweep(runs: Iterable[Resumed], frame: Frame) -> Work:
    """Patched runs over one prompt, flown together in the engine's order."""
    ordered = sorted(runs, key=lambda run: (-run.rows, run.joins))
    flights = list(_flights(ordered, frame))
    return Work(
        layer_rows=sum(run.share * (frame.whole(run) + run.ahead) for run in ordered),
        last_rows=sum(run.share * (run.rows - frame.tails) for run in ordered if run.joins < frame.layers)
        * frame.resumes,
        attended=frame.tokens * sum(run.share * frame.whole(run) for run in ordered),
        layer_calls=sum(frame.layers - min(run.first_layer for run in flown) for flown in flights),
        groups=sum(_groups(flown, frame.layers) for flown in flights),
        cells=sum(run.share for run in ordered),
    )


def _groups(flown: Iterable[Resumed], layers: int) -> float:
    """Through how many layers the groups of a flight pass: each from where its first run joins."""
    found: dict[float, list[Resumed]] = {}
    for run in flown:
        found.setdefault(run.rows, []).append(run)
    return sum(max(r.share for r in runs) * (layers - min(r.joins for r in runs)) for runs in found.values())


def _flights(ordered: Iterable[Resumed], frame: Frame) -> Iterator[list[Resumed]]:
    flight: list[Resumed] = []
    rows = 0.0
    for run in ordered:
        full = rows + run.share * run.rows > frame.at_once
        if flight and (full or not (frame.packs or run.joins == flight[0].joins)):
            yield flight
            flight, rows = [], 0.0
        flight.append(run)
        rows += run.share * run.rows
    if flight:
        yield flight
