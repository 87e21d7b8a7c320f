"""Decision values of many prompts, each distinct prompt once and each shared beginning once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit_service.domain.beginnings import Continuation, families
from audit_service.domain.labels import LabelTokens
from workers.engine.answers import AnsweredEntry, answered, answered_entries, gather, tails
from workers.engine.donors import Recording, record
from workers.engine.entry import check_prompt, enter, same_beginning
from workers.engine.families import Flow
from workers.engine.flight import Flight
from workers.engine.memory import in_halves, rows_at_once
from workers.engine.progress import Progress, StopCheck, never_stop, no_progress
from workers.engine.readout import full_decision
from workers.engine.runs import Group, Run
from workers.engine.subject import Subject

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Decisions:
    """Decision values in nats; each array is float32 [prompt]."""

    d: NDArray[np.float32]
    log_p_favorable: NDArray[np.float32]
    log_p_unfavorable: NDArray[np.float32]
    rank: NDArray[np.float32]
    """Place of the likeliest favorable label's first token among all tokens."""
    log_total: NDArray[np.float32]
    """logsumexp of all logits."""


def measure_decisions(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    labels: LabelTokens,
    *,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> Decisions:
    """Decision value and label probabilities of each prompt; the order of the prompts changes no number's meaning.

    Raises InvalidPairs for a prompt the model cannot take, Cancelled when asked to stop.
    """
    wanted = [tuple(prompt) for prompt in prompts]
    for ids in set(wanted):
        check_prompt(subject, ids, behind=labels.behind)
    found: dict[Ids, Tensor] = {}
    total = len(set(wanted))

    def note(ids: Sequence[Ids], hidden: Tensor) -> None:
        found.update(zip(ids, torch.stack(tuple(full_decision(subject, hidden, labels)), dim=1), strict=True))
        progress(len(found), total, 0.0)

    read = _read_packed if subject.anatomy.flow is Flow.PACKED else _read_whole
    for several, hidden in read(subject, sorted(set(wanted)), labels, should_stop=should_stop):
        note(several, hidden)
    return Decisions(*torch.stack([found[ids] for ids in wanted], dim=1).cpu().numpy())


def _read_packed(
    subject: Subject, prompts: Sequence[Ids], labels: LabelTokens, *, should_stop: StopCheck
) -> Iterator[tuple[list[Ids], Tensor]]:
    """Prompts and the rows from which they are read, each shared beginning computed once."""
    for first, others in families(prompts):
        base = record(subject, first, should_stop=should_stop)
        yield [first], tails(answered(subject, base, labels, should_stop=should_stop))
        ordered = sorted(others, key=lambda c: (c.shared, len(c.ids)))

        def fly(some: Sequence[Continuation[int]], base: Recording = base) -> Tensor:
            return Flight(subject, _groups(subject, base, some, labels)).run(should_stop=should_stop)

        for flown in _flights(ordered, rows_at_once(subject, length=max(map(len, prompts)))):
            yield [c.ids for c in flown], in_halves(flown, fly)


def _read_whole(
    subject: Subject, prompts: Sequence[Ids], labels: LabelTokens, *, should_stop: StopCheck
) -> Iterator[tuple[list[Ids], Tensor]]:
    """Prompts and the rows from which they are read, those of one length as a batch: nothing can be gone on from."""
    for length, members in groupby(sorted(prompts, key=len), key=len):
        several = list(members)
        at_once = max(1, rows_at_once(subject, length=length) // length)
        for batch in (several[first : first + at_once] for first in range(0, len(several), at_once)):
            yield batch, in_halves(batch, partial(_read_batch, subject, labels=labels, should_stop=should_stop))


def _read_batch(subject: Subject, prompts: Sequence[Ids], *, labels: LabelTokens, should_stop: StopCheck) -> Tensor:
    entries = [answered_entries(subject, enter(subject, ids), labels) for ids in prompts]
    parts = [_batch(subject, ways).run(should_stop=should_stop) for ways in zip(*entries, strict=True)]
    return gather(parts, [rows for _, rows in entries[0]])


def _batch(subject: Subject, entries: Sequence[AnsweredEntry]) -> Flight:
    first, rows = entries[0]
    runs = tuple(Run(0, entry.hidden, ()) for entry, _ in entries)
    return Flight(subject, [Group(first, 0, (), runs, tails=len(rows))])


def _flights(continuations: Sequence[Continuation[int]], most: int) -> Iterator[list[Continuation[int]]]:
    flight: list[Continuation[int]] = []
    rows = 0
    for c in continuations:
        if flight and rows + len(c.ids) - c.shared > most:
            yield flight
            flight, rows = [], 0
        flight.append(c)
        rows += len(c.ids) - c.shared
    if flight:
        yield flight


def _groups(subject: Subject, base: Recording, flown: Sequence[Continuation[int]], labels: LabelTokens) -> list[Group]:
    groups = []
    for (shared, _), members in groupby(flown, key=lambda c: (c.shared, len(c.ids))):
        [entries] = zip(*(answered_entries(subject, enter(subject, c.ids), labels) for c in members), strict=True)
        (entry, rows), *_ = entries
        start = shared if same_beginning(base.entry, entry, shared) else 0
        runs = tuple(Run(0, entry.hidden[start:], ()) for entry, _ in entries)
        groups.append(Group(entry, start, base.prefixes(start), runs, tails=len(rows)))
    return groups
