"""The work of deciding many prompts together, as the engine does it (workers.engine.decisions)."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import groupby

from pydantic import Field

from audit_service.domain.beginnings import Continuation, families
from audit_service.domain.manifest import Frozen
from audit_service.domain.work import ROWS_IN_FLIGHT, Frame, Work, whole_pass

Ids = tuple[Hashable, ...]


class Reading(Frozen):
    """What of a model and its labels decides how much is computed for a prompt."""

    layers: int = Field(ge=1)
    tails: int = Field(default=1, ge=1)
    """Rows that a decision is read from: more than one where labels have several tokens."""
    endings: int = Field(default=1, ge=1)
    """Labels' beginnings that begin no other."""
    labels: int = Field(default=2, ge=2)
    """Spellings of both labels."""
    causal: bool = True
    """Whether attention reads earlier positions alone."""
    packs: bool = True
    """Whether runs are packed; otherwise they go through the layers as a batch."""
    gated: bool = False
    """Whether something stands between a head's values and its output, so that rows cannot go ahead."""
    classifies: bool = False

    @property
    def resumes(self) -> bool:
        """Whether runs start at the first position that is changed."""
        return self.causal and self.packs

    @property
    def behind(self) -> int:
        """Rows behind the prompt."""
        return self.tails - 1 if self.causal else 0

    @property
    def ways(self) -> int:
        """How often each run flies: where nothing is packed, once for each ending."""
        return 1 if self.packs else self.endings

    def frame(self, tokens: float, *, at_once: float = ROWS_IN_FLIGHT) -> Frame:
        """Of runs over a prompt with so many tokens."""
        return Frame(self.layers, tokens + self.behind, self.tails, self.packs, self.resumes, at_once)

    def answered(self, tokens: float) -> Work:
        """Putting the labels' beginnings behind a recorded prompt."""
        if not self.behind:
            return Work()
        if not self.packs:
            return whole_pass(tokens + self.behind, layers=self.layers).times(self.endings)
        rows = self.layers * self.behind
        return Work(layer_rows=rows, attended=rows * (tokens + self.behind), layer_calls=self.layers,
                    groups=self.layers, entries=self.endings, vocabulary_rows=self.behind)  # fmt: skip


def decided(prompts: Iterable[Ids], reading: Reading, *, at_once: int = ROWS_IN_FLIGHT) -> Work:
    """Reading each distinct prompt once; what it begins with like another is computed once where that pays."""
    ordered = sorted(set(prompts))
    found = _packed(ordered, reading, at_once) if reading.resumes else _whole(ordered, reading, at_once)
    return Work.total([*found, Work(vocabulary_rows=0 if reading.classifies else len(ordered))])


def _packed(ordered: Sequence[Ids], reading: Reading, at_once: int) -> Iterator[Work]:
    for first, others in families(ordered):
        yield whole_pass(len(first), layers=reading.layers)
        yield reading.answered(len(first))
        flight: list[Continuation[Hashable]] = []
        for one in sorted(others, key=lambda c: (c.shared, len(c.ids))):
            if flight and sum(map(_rows, (*flight, one))) > at_once:
                yield _flown(flight, reading)
                flight = []
            flight.append(one)
        if flight:
            yield _flown(flight, reading)


def _rows(one: Continuation[Hashable]) -> int:
    return len(one.ids) - one.shared


def _flown(flight: Sequence[Continuation[Hashable]], reading: Reading) -> Work:
    """Continuations in one flight from the first layer on; of the last one no more is needed than what is read."""
    layers, behind, tails = reading.layers, reading.behind, reading.tails
    groups = len(list(groupby(flight, key=lambda c: (c.shared, len(c.ids)))))
    passed = [((layers - 1) * (_rows(c) + behind) + tails, len(c.ids) + behind) for c in flight]
    return Work(
        layer_rows=sum(rows for rows, _ in passed),
        last_rows=sum(_rows(c) + behind - tails for c in flight),
        attended=sum(rows * keys for rows, keys in passed),
        layer_calls=layers,
        groups=layers * groups,
        entries=len(flight) * (1 + (reading.endings if behind else 0)),
        vocabulary_rows=behind * len(flight),
    )


def _whole(ordered: Sequence[Ids], reading: Reading, at_once: int) -> Iterator[Work]:
    """Prompts of one length as batches, every position computed."""
    for length, members in groupby(sorted(ordered, key=len), key=len):
        count, tokens = len(list(members)), length + reading.behind
        batches = -(-count // max(1, at_once // length))
        one = whole_pass(tokens, layers=reading.layers).times(count * reading.ways)
        calls = reading.layers * batches * reading.ways
        entries = count * (1 + (reading.endings if reading.behind else 0))
        read = reading.behind * count
        yield one.model_copy(
            update={"layer_calls": calls, "groups": calls, "entries": entries, "vocabulary_rows": read}
        )
