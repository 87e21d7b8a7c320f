"""How much is computed, counted without computing it: rows through layers, attention, passes of flights.

Most time goes into the layers' matrix products, so it follows the rows that pass through layers; each pass of a flight
through a layer has a price of its own besides, which is what makes many small flights dear.
"""

from collections.abc import Iterable, Iterator, Sequence
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


def whole_pass(tokens: float, *, layers: int) -> Work:
    """One prompt through every layer, all of it kept."""
    return Work(layer_rows=layers * tokens, attended=layers * tokens * tokens, layer_calls=layers, entries=1)


def sweep(
    runs: Sequence[Resumed], *, layers: int, tokens: float, packs: bool = True, at_once: int = ROWS_IN_FLIGHT
) -> Work:
    """Patched runs over one prompt, flown together in the engine's order."""
    ordered = sorted(runs, key=lambda run: (-run.rows, run.joins))
    return Work(
        layer_rows=sum(_whole_rows(run, layers) for run in ordered),
        last_rows=sum(run.rows - 1 for run in ordered if run.joins < layers),
        attended=tokens * sum(run.rows * max(0, layers - 1 - run.joins) + (run.joins < layers) for run in ordered),
        layer_calls=sum(layers - min(run.first_layer for run in flown) for flown in _flights(ordered, packs, at_once)),
        cells=len(ordered),
    )


def _whole_rows(run: Resumed, layers: int) -> float:
    """In the last layer only the decision's row is needed whole."""
    return run.rows * max(0, layers - 1 - run.joins) + (run.joins < layers) + run.ahead


def _flights(ordered: Iterable[Resumed], packs: bool, at_once: int) -> Iterator[list[Resumed]]:
    flight: list[Resumed] = []
    rows = 0.0
    for run in ordered:
        if flight and (rows + run.rows > at_once or not (packs or run.joins == flight[0].joins)):
            yield flight
            flight, rows = [], 0.0
        flight.append(run)
        rows += run.rows
    if flight:
        yield flight
