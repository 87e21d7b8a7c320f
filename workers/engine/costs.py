"""What a sweep will cost on this machine: work counted exactly, seconds by a short calibration.

Most time goes into the layers' matrix products, so it follows the rows that pass through layers; each pass of a flight
through a layer has a price of its own besides, which is what makes many small flights dear.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from workers.engine.donors import Recording, record
from workers.engine.patching import in_flights, patch_together
from workers.engine.placing import Placed, place_all
from workers.engine.positions import Exchange
from workers.engine.subject import Subject

Sets = Sequence[Sequence[Exchange]]


class Work(NamedTuple):
    """What is computed."""

    layer_rows: float
    """Rows times layers; in the last layer, where little more than keys and values is needed, a share of one."""
    attended: float
    """Pairs of a query's and a key's position, times layers."""
    layer_calls: int
    """Passes of flights through layers."""
    forward_equivalents: float
    """The rows in units of one whole pass over the recipient."""
    flops: float
    """Two operations for each parameter of a layer and row, and four for each width and attended pair."""


class Calibration(NamedTuple):
    """Seconds of processor time on this machine, for this model and number of threads."""

    per_layer_row: float
    per_attended: float
    per_layer_call: float

    def seconds(self, work: Work) -> float:
        """Predicted processor time of some work."""
        return float(np.dot(self, work[:3]))


def work_of(subject: Subject, recipient: Recording, donor: Recording, sets: Sets) -> Work:
    """Count the work of patching each set, without doing it; raises as patching them would."""
    anatomy = subject.anatomy
    todo = place_all(anatomy, sets, recipient, donor)
    flights = list(in_flights(subject, todo, recipient.length))
    counts = np.array([_counted(subject, flown, recipient.length) for flown in flights]).reshape(-1, 3).sum(axis=0)
    rows, attended, calls = counts.tolist()
    parameters = sum(parameter.numel() for parameter in anatomy.blocks[0].layer.parameters())
    flops = 2 * parameters * rows + 4 * anatomy.width * attended
    return Work(rows, attended, int(calls), rows / (anatomy.layers * recipient.length), flops)


def _counted(subject: Subject, flown: Sequence[Placed], length: int) -> tuple[float, float, int]:
    """Rows, attended pairs and calls of one flight, over its layers."""
    layers = subject.anatomy.layers
    rows = attended = 0.0
    for p in flown:
        own, passed = length - p.start, max(0, layers - 1 - p.joins)
        rows += own * passed + len(p.ahead)
        attended += own * length * passed
        if p.joins < layers:
            share = _keys_and_values_share(subject)
            rows += share * own + (1 - share)
            attended += length
    return rows, attended, layers - min(p.first_layer for p in flown)


def _keys_and_values_share(subject: Subject) -> float:
    """Share of a layer's parameters that every row needs in the last one: queries, keys and values."""
    block = subject.anatomy.blocks[-1]
    whole = sum(parameter.numel() for parameter in block.layer.parameters())
    inside = sum(parameter.numel() for parameter in block.attention.parameters())
    behind = sum(parameter.numel() for parameter in block.out_proj.parameters())
    return (inside - behind) / whole


def calibrate(
    subject: Subject, clean: Sequence[int], corrupt: Sequence[int], labels: LabelTokens, *, repeats: int = 2
) -> Calibration:
    """Measure a few small sweeps of these prompts and fit what a row, an attended pair and a call cost.

    Takes about as long as a few dozen forward passes. The first repeat warms up and is not counted.
    """
    recipient, donor = record(subject, corrupt), record(subject, clean)
    shapes = [_sample(subject, recipient.length, number) for number in range(4)]
    work = [work_of(subject, recipient, donor, sets) for sets in shapes]
    seconds = np.full(len(shapes), np.inf)
    for repeat in range(repeats + 1):
        for number, sets in enumerate(shapes):
            begin = time.process_time()
            patch_together(subject, recipient, donor, sets, labels=labels)
            if repeat:
                seconds[number] = min(seconds[number], time.process_time() - begin)
    # Relative errors count, or the largest sweep alone would decide.
    table = np.array([each[:3] for each in work], float) / seconds[:, None]
    found, _ = nnls(table, np.ones(len(shapes)))
    return Calibration(*found.tolist())


def _sample(subject: Subject, length: int, number: int) -> Sets:
    """Sweeps of different shapes: the last token, late tokens, middle tokens, whole prompts."""
    layers, last = subject.anatomy.layers, length - 1
    starts = {0: [last], 1: range(max(0, length - 6), length), 2: [length // 2] * 2, 3: [length // 3] * 3}[number]
    step = (1, 2, 3, 3)[number]
    return [
        (Exchange(SiteKind.ATTN_OUT, layer, None, at, at),)
        for layer in range(0, layers, step)
        for at in (tuple(range(start, length)) for start in starts)
    ]
