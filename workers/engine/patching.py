"""Activation patching: put the donor's activation into the recipient's run and read the decision."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, NotRequired, TypedDict, Unpack

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from audit_service.domain.labels import LabelTokens
from audit_service.domain.plan import Direction, Mapping
from audit_service.domain.sites import Site
from workers.engine.answers import Answered, answered, gather, tails, unpatched
from workers.engine.distributions import Readouts, log_probabilities, read_all
from workers.engine.donors import Recording
from workers.engine.flight import Flight
from workers.engine.memory import in_halves, rows_at_once
from workers.engine.placing import Placed, place_all
from workers.engine.positions import Exchange, exchange_of
from workers.engine.progress import Progress, StopCheck, never_stop, no_progress
from workers.engine.readout import decision_values
from workers.engine.runs import Group
from workers.engine.subject import Subject
from workers.engine.tokens import EncodedPrompt


@dataclass(frozen=True, slots=True)
class PairEffects:
    """Patched decision values of one pair in one direction, in nats."""

    patched: NDArray[np.float32]
    """[site] in the order asked for."""
    d_clean: float
    d_corrupt: float
    readouts: Readouts | None = None
    """[site] all readouts of the same patched runs, where asked for."""
    unpatched: Readouts | None = None
    """[2] those of the clean and the corrupt run; the donor's divergence from itself is 0."""


class Side(NamedTuple):
    """One side of a trace: where its segments stand, and its activations."""

    prompt: EncodedPrompt
    recording: Recording


def trace_sides(
    subject: Subject,
    clean: Side,
    corrupt: Side,
    sets: Sequence[Sequence[Site]],
    *,
    direction: Direction,
    labels: LabelTokens,
    mapping: Mapping = Mapping.RIGHT_ALIGNED,
    all_readouts: bool = False,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> PairEffects:
    """Patch the sites of each set of a pair at once, set by set, and read the decision value of each patched run.

    Denoising puts clean activations into the corrupt run, noising the reverse. ``all_readouts`` adds the probabilities,
    divergences and ranks of the same runs, at the price of the whole unembedding. Raises InvalidTrace for a site that
    this model does not have, Cancelled when asked to stop.
    """
    to, by = (corrupt, clean) if direction is Direction.DENOISE else (clean, corrupt)
    exchanges = [[exchange_of(site, to.prompt, by.prompt, mapping) for site in sites] for sites in sets]
    recordings = [clean.recording, corrupt.recording]
    d_clean, d_corrupt = unpatched(subject, recordings, labels).tolist()
    recipient, donor = to.recording, by.recording
    if not all_readouts:
        patched = patch_together(
            subject, recipient, donor, exchanges, labels=labels, progress=progress, should_stop=should_stop
        )
        return PairEffects(patched, d_clean, d_corrupt)
    found = read_together(
        subject, recipient, donor, exchanges, labels=labels, progress=progress, should_stop=should_stop
    )
    rows = [tails(answered(subject, one, labels)) for one in recordings]
    donors_own = log_probabilities(subject, rows[0 if direction is Direction.DENOISE else 1])
    both = torch.cat([read_all(subject, one, labels, donor=donors_own) for one in rows])
    return PairEffects(found.d, d_clean, d_corrupt, found, Readouts.of(both.cpu().numpy()))


class How(TypedDict):
    """What every patch is told beside what is exchanged."""

    labels: LabelTokens
    skip_equal: NotRequired[bool]
    """Leave rows that both prompts have computed from the same tokens as they are; true if left out."""
    progress: NotRequired[Progress]
    should_stop: NotRequired[StopCheck]


def patch(
    subject: Subject, recipient: Recording, donor: Recording, exchanges: Sequence[Exchange], **how: Unpack[How]
) -> NDArray[np.float32]:
    """Decision value [exchange] of the recipient's run with each exchange made alone, in float32 nats."""
    return patch_together(subject, recipient, donor, [(exchange,) for exchange in exchanges], **how)


def patch_together(
    subject: Subject, recipient: Recording, donor: Recording, sets: Sequence[Sequence[Exchange]], **how: Unpack[How]
) -> NDArray[np.float32]:
    """Decision value [set] of the recipient's run with all exchanges of a set made at once, in float32 nats.

    A set may span several layers (a window) and kinds. Where two of its exchanges meet, the later in the network wins.
    """

    def read(hidden: Float[Tensor, "run tail width"]) -> Float[Tensor, "run 1"]:
        return decision_values(subject, hidden, how["labels"])[:, None]

    return _measure(subject, recipient, donor, sets, read, **how)[:, 0]


def read_together(
    subject: Subject, recipient: Recording, donor: Recording, sets: Sequence[Sequence[Exchange]], **how: Unpack[How]
) -> Readouts:
    """All readouts [set] of the same runs, against the donor's distribution, at no further forward."""
    donors_own = log_probabilities(subject, tails(answered(subject, donor, how["labels"])))

    def read(hidden: Float[Tensor, "run tail width"]) -> Float[Tensor, "run readout"]:
        return read_all(subject, hidden, how["labels"], donor=donors_own)

    return Readouts.of(_measure(subject, recipient, donor, sets, read, **how))


Read = Callable[[Float[Tensor, "run tail width"]], Float[Tensor, "run readout"]]
"""From the residual stream at the decision and the labels behind it to what is read there; d first."""


def _measure(
    subject: Subject,
    recipient: Recording,
    donor: Recording,
    sets: Sequence[Sequence[Exchange]],
    read: Read,
    *,
    labels: LabelTokens,
    skip_equal: bool = True,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> NDArray[np.float32]:
    """What is read [set, readout] in the run of each set; the unpatched reading where nothing can have changed."""
    own = answered(subject, recipient, labels, should_stop=should_stop)
    before = read(tails(own))
    table = before.repeat(len(sets), 1)
    todo = place_all(subject.anatomy, sets, recipient, donor, skip_equal=skip_equal)
    done = len(sets) - sum(len(p.cells) for p in todo)
    for flown in in_flights(subject, todo, max(one.recording.length for one in own)):
        parts = [_fly(subject, flown, one, donor, should_stop=should_stop) for one in own]
        found = read(gather(parts, [one.rows for one in own]))
        runs, cells = torch.tensor([(run, cell) for run, p in enumerate(flown) for cell in p.cells]).to(table.device).T
        table[cells] = found[runs]
        done += len(cells)
        progress(done, len(sets), float((table[:, 0] - before[0, 0]).abs().max()))
    return table.cpu().numpy()


def _fly(
    subject: Subject, placed: Sequence[Placed], recipient: Answered, donor: Recording, *, should_stop: StopCheck
) -> Float[Tensor, "run tail width"]:
    """Fly the runs together, or in halves where there is too little memory for all of them at once."""
    return in_halves(placed, lambda some: Flight(subject, _groups(some, recipient, donor)).run(should_stop=should_stop))


def in_flights(subject: Subject, placed: Sequence[Placed], length: int) -> Iterator[list[Placed]]:
    """Cut the runs into flights of a bounded number of rows; runs that cannot be packed join at one layer."""
    packs, most = subject.anatomy.flow.packs, rows_at_once(subject, length=length)
    flight: list[Placed] = []
    rows = 0
    for p in placed:
        if flight and (rows + length - p.start > most or not (packs or p.joins == flight[0].joins)):
            yield flight
            flight, rows = [], 0
        flight.append(p)
        rows += length - p.start
    if flight:
        yield flight


def _groups(placed: Sequence[Placed], recipient: Answered, donor: Recording) -> list[Group]:
    own, rows = recipient
    return [
        Group(own.entry, start, own.prefixes(start), tuple(p.run(own, donor) for p in members), tails=len(rows))
        for start, members in groupby(placed, key=lambda p: p.start)
    ]
