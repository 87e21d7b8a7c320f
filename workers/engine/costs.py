"""What work costs on this machine, measured on a few small sweeps (audit_service.domain.work counts the work)."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from scipy.optimize import nnls
from torch import Tensor

from audit_service.domain.decided import Reading
from audit_service.domain.forecast import Calibration
from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from audit_service.domain.work import Resumed, Work, sweep, whole_pass
from workers.engine.determinism import device_name, dtype_name
from workers.engine.donors import Recording, record, record_entry
from workers.engine.entry import enter
from workers.engine.memory import row_bytes, rows_at_once
from workers.engine.patching import patch_together
from workers.engine.placing import place_all
from workers.engine.positions import Exchange
from workers.engine.progress import StopCheck, never_stop
from workers.engine.readout import logits
from workers.engine.subject import Subject

Sets = Sequence[Sequence[Exchange]]
READ = 16
"""Rows that are read over the whole vocabulary to time it."""


def reading_of(subject: Subject, labels: LabelTokens) -> Reading:
    """What of the model and the labels decides how much is computed for a prompt."""
    anatomy, rows = subject.anatomy, labels.beginnings
    return Reading(
        layers=anatomy.layers,
        tails=len(rows),
        endings=sum(not any(other[: len(row)] == row for other in rows if other != row) for row in rows),
        labels=len(labels.sequences),
        causal=anatomy.flow.causal,
        packs=anatomy.flow.packs,
        gated=anatomy.gated,
        classifies=anatomy.classifies,
    )


def work_of(
    subject: Subject,
    recipient: Recording,
    donor: Recording,
    sets: Sets,
    labels: LabelTokens,
    *,
    skip_equal: bool = True,
) -> Work:
    """Count the work of patching each set, without doing it; raises as patching them would."""
    reading, length = reading_of(subject, labels), recipient.length
    placed = place_all(subject.anatomy, sets, recipient, donor, skip_equal=skip_equal)
    runs = [Resumed(length - p.start + reading.behind, p.joins, len(p.ahead)) for p in placed]
    frame = reading.frame(length, at_once=rows_at_once(subject, length=length + reading.behind))
    return Work.total([sweep(runs, frame).times(reading.ways), reading.answered(length)])


def calibrate(
    subject: Subject,
    clean: Sequence[int],
    corrupt: Sequence[int],
    labels: LabelTokens,
    *,
    rounds: int = 3,
    clock: Callable[[], float] | None = None,
    should_stop: StopCheck = never_stop,
) -> Calibration:
    """Measure a few small sweeps of these prompts and fit what a row, an attended pair, a call and a cell cost.

    Takes about as long as a few dozen forward passes. The best of the rounds counts, so that what else the machine does
    for a moment decides nothing; without a clock it is the processor time where one thread computes.
    """
    clock = clock or clock_of(subject)
    resting = _resting_bytes(subject)
    recipient, donor = (record(subject, ids, should_stop=should_stop) for ids in (corrupt, clean))
    shapes = [_sample(subject, recipient, donor, number) for number in range(6)]
    trials = [_recorded(subject, recipient), *(_swept(subject, recipient, donor, sets, labels) for sets in shapes)]
    acts = [partial(trial.act, should_stop) for trial in trials]
    *swept, entering, reading = _best(
        subject, [*acts, partial(enter, subject, corrupt), partial(_read, subject, recipient)], rounds, clock
    )
    seconds = np.array(swept)
    share = _keys_and_values_share(subject)
    # Relative errors count, or the largest sweep alone would decide.
    table = np.array([_columns(trial.work, share) for trial in trials]) / seconds[:, None]
    per_row, per_attended, per_call, per_group, per_cell = nnls(table, np.ones(len(trials)))[0].tolist()
    anatomy = subject.anatomy
    return Calibration(
        device=device_name(subject),
        dtype=dtype_name(subject),
        threads=torch.get_num_threads(),
        seconds_per_row=per_row,
        seconds_per_attended=per_attended,
        seconds_per_call=per_call,
        seconds_per_group=per_group,
        seconds_per_cell=per_cell,
        seconds_per_entry=entering,
        seconds_per_vocabulary_row=reading / READ if anatomy.flow.causal else 0.0,
        last_share=share,
        layer_parameters=sum(parameter.numel() for parameter in anatomy.blocks[0].layer.parameters()),
        vocabulary_parameters=anatomy.vocabulary * anatomy.width,
        vocabulary=anatomy.vocabulary,
        width=anatomy.width,
        heads=anatomy.heads,
        resting_bytes=resting,
        kept_bytes_per_token=_kept_bytes(recipient) // recipient.length,
        row_bytes=row_bytes(subject),
        recording_limit=subject.memory.device if subject.device.type == "cuda" else subject.memory.host,
        flight_limit=subject.memory.flight,
    )


class _Trial(NamedTuple):
    """Something to time, and how much it computes."""

    work: Work
    act: Callable[[StopCheck], object]


def _recorded(subject: Subject, made: Recording) -> _Trial:
    """Recording a prompt once more, from its embeddings on."""
    work = whole_pass(made.length, layers=subject.anatomy.layers)
    return _Trial(work, lambda stop: record_entry(subject, made.entry, should_stop=stop))


def _swept(subject: Subject, recipient: Recording, donor: Recording, sets: Sets, labels: LabelTokens) -> _Trial:
    def act(should_stop: StopCheck) -> object:
        return patch_together(subject, recipient, donor, sets, labels=labels, skip_equal=False, should_stop=should_stop)

    return _Trial(work_of(subject, recipient, donor, sets, labels, skip_equal=False), act)


def _columns(work: Work, last_share: float) -> list[float]:
    return [work.layer_rows + last_share * work.last_rows, work.attended, work.layer_calls, work.groups, work.cells]


def _sample(subject: Subject, recipient: Recording, donor: Recording, number: int) -> Sets:
    """Sweeps of different shapes: the last token, often and once, late tokens, middle tokens, most, many beginnings."""
    layers, shared = subject.anatomy.layers, min(recipient.length, donor.length)
    back = ([1] * 4, [1], range(1, min(6, shared) + 1), [max(1, shared // 2)] * 2, [max(1, 2 * shared // 3)] * 3,
            range(1, shared + 1, max(1, shared // 12)))  # fmt: skip
    step = (1, 1, 2, 3, 3, layers)[number]
    return [
        (Exchange(SiteKind.ATTN_OUT, layer, None, _last(recipient.length, count), _last(donor.length, count)),)
        for layer in range(0, layers, step)
        for count in back[number]
    ]


def _last(length: int, count: int) -> tuple[int, ...]:
    return tuple(range(length - count, length))


@torch.inference_mode()
def _read(subject: Subject, recording: Recording) -> object:
    """Read some rows over the whole vocabulary; an encoder's head, which is part of its cells, is not read."""
    return logits(subject, recording.decision.expand(READ, -1)).logsumexp(1) if subject.anatomy.flow.causal else None


def clock_of(subject: Subject) -> Callable[[], float]:
    """The processor time where one thread computes, whatever else the machine does; the wall's elsewhere."""
    alone = subject.device.type == "cpu" and torch.get_num_threads() == 1
    return time.thread_time if alone else time.perf_counter


def _best(
    subject: Subject, acts: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> list[float]:
    """The shortest time of each act over some rounds through all of them; the first warms up and is not counted."""
    best = [float("inf")] * len(acts)
    for number in range(rounds + 1):
        for at, act in enumerate(acts):
            begin = clock()
            act()
            _wait(subject)
            best[at] = min(best[at], clock() - begin) if number else best[at]
    return best


def _wait(subject: Subject) -> None:
    if subject.device.type == "cuda":
        torch.cuda.synchronize(subject.device)


def _keys_and_values_share(subject: Subject) -> float:
    """Share of a layer's parameters that every row needs in the last one: queries, keys and values."""
    block = subject.anatomy.blocks[-1]
    whole, inside, behind = (
        sum(parameter.numel() for parameter in module.parameters())
        for module in (block.layer, block.attention, block.out_proj)
    )
    return (inside - behind) / whole if inside > behind else 1.0


def _resting_bytes(subject: Subject) -> int:
    if subject.device.type == "cuda":
        return int(torch.cuda.memory_allocated(subject.device))
    return int(psutil.Process().memory_info().rss)


def _kept_bytes(recording: Recording) -> int:
    """Of all layers of a recording, whether they were kept or not."""
    shelves = (recording.resid, recording.heads, recording.z, recording.attn_out, recording.mlp_out)
    return sum(len(shelf) * _bytes(shelf[0]) for shelf in shelves)


def _bytes(value: Any) -> int:  # noqa: ANN401 - a tensor or a named tuple with some
    return sum(part.nbytes for part in (value if isinstance(value, tuple) else (value,)) if isinstance(part, Tensor))
