"""Speed of exact patching against plain hooks and installed peers, on one pair of one model.

    build/oracle/bin/python -m tests.benchmarks.sweep --model FOLDER [--threads 2] [--seconds 22]
    build/oracle/bin/python -m tests.benchmarks.sweep --shape 1b --device cuda --dtype bfloat16

Every contender patches the same cells of the same pair. Slow ones work on cells drawn over the whole sweep, half of
their time before ours and half behind it, so that a machine that slows down slows all of them; what they do first, such
as recording the donor, is not counted. They share a process of their own that waits while ours works: the engine tells
the C library of its process to keep freed memory, which their users do not have. Speeds are per second of the clock,
and per second of processor time, which other work on the machine touches less. Each contender's cells are compared with
ours, and ours with the plain hooks'; who deviates by more than the tolerance is marked as wrong.

GFLOP/s are those of the work: for ours what must be done (see work.py), for the others a plain forward for each cell.
The bound is the time of our work at the speed of the largest matrix products that this process reaches. Peers take part
where they can be imported: `make oracle` makes an environment with them.
"""

import argparse
import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from tests.benchmarks import peers
from tests.benchmarks.peers import Case, Cells, Contender
from tests.benchmarks.work import SHAPES, matmul_peak, random_model, whole_run, work
from workers.engine import heap
from workers.engine.donors import record
from workers.engine.loading import load_subject
from workers.engine.patching import patch
from workers.engine.positions import Exchange
from workers.engine.subject import Subject

CLEAN = (
    "The bank reviews the application for a new loan made by Emily this year. She is 35 years old, has worked as a "
    "nurse for nine years, earns 52,000 dollars a year and owes 4,000 dollars to another big bank. Should the bank "
    "approve the loan? Answer:"
)
CORRUPT = CLEAN.replace("Emily", "James")
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}
"""Nats; for 16 bits what the format's own rounding explains."""


class Timed(NamedTuple):
    """What a contender did in its time."""

    values: dict[int, float]
    seconds: float
    cpu_seconds: float

    def __add__(self, more: object) -> "Timed":
        assert isinstance(more, Timed)
        both = self.seconds + more.seconds, self.cpu_seconds + more.cpu_seconds
        return Timed(self.values | more.values, *both)


def main() -> None:
    given = _arguments()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = given.model or random_model(given.shape, Path(folder), dtype=given.dtype)
        case = _case(path, given.device, given.dtype)
        with nullcontext() if given.alone else _others_beside(path, given) as others:
            _run(case, others, given)


@contextmanager
def _others_beside(path: Path, given: argparse.Namespace) -> Iterator[Connection]:
    """The other contenders in a process of their own, which ends with the block."""
    here, there = multiprocessing.Pipe()
    arguments = there, path, given.device, given.dtype, given.threads
    process = multiprocessing.get_context("spawn").Process(target=_compete, args=arguments, daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        process.terminate()


def _compete(asked: Connection, path: Path, device: str, dtype: str, threads: int) -> None:
    """Take (cells, seconds), give what was done in half of the time, wait for a word, and give the other half."""
    torch.set_num_threads(threads)
    with mock.patch.object(heap, "keep_freed"):
        others = _others(_case(path, device, dtype))
    while True:
        drawn, seconds = asked.recv()
        running = {name: run(drawn) for name, run in others.items()}
        for values in running.values():
            next(values)
        asked.send({name: _timed(values, seconds / 2) for name, values in running.items()})
        asked.recv()
        asked.send({name: _timed(values, seconds / 2) for name, values in running.items()})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", type=Path, help="folder of a model")
    which.add_argument("--shape", choices=SHAPES, help="size of a model with random weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=22, help="for each slow contender and sweep")
    parser.add_argument("--sites", nargs="*", default=[*peers.SINGLE, SiteKind.Z], type=SiteKind)
    parser.add_argument("--alone", action="store_true", help="leave the other contenders out")
    return parser.parse_args()


def _run(case: Case, others: Connection | None, given: argparse.Namespace) -> None:
    console = Console(width=132)
    for kind in given.sites:
        cells = _sweep(case.subject, kind, len(case.clean))
        peak = matmul_peak(case.subject)
        timed = _race(case, others, cells, given.seconds)
        peak = max(peak, matmul_peak(case.subject))
        must = work(case.subject.model, case.subject.anatomy, cells, case.clean, case.corrupt)
        title = f"{kind}: {len(cells)} cells, {len(case.clean)} tokens, {given.dtype}, {given.device}"
        each = whole_run(case.subject.model, case.subject.anatomy, len(case.clean))
        console.print(_table(title, timed, TOLERANCE[case.subject.dtype], work=must / len(cells), plain=each))
        bound = must / peak
        console.print(
            f"work {must / 1e12:.2f} TFLOP, matmul peak {peak / 1e9:.0f} GFLOP/s on {given.threads} threads, "
            f"bound {bound:.1f} s: ours is at {bound / timed['audit-service'].seconds:.0%} of it\n"
        )


def _case(path: Path, device: str, dtype: str) -> Case:
    subject = load_subject(path, device=device, dtype=dtype)
    if len(subject.tokenizer) > 1000:
        texts = [subject.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (CLEAN, CORRUPT)]
        yes, no = (subject.tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in (" Yes", " No"))
    else:  # a model of random weights has no words
        texts = [[*range(7, 18), name, *range(20, 74)] for name in (300, 301)]
        yes, no = 5, 6
    return Case(subject, path, tuple(texts[0]), tuple(texts[1]), LabelTokens.single(favorable=[yes], unfavorable=[no]))


def _others(case: Case) -> dict[str, Contender]:
    loops = {"plain hooks": 1, "plain hooks, batches of 16": 16}
    return {name: peers.hooks(case, batch=batch) for name, batch in loops.items()} | peers.available(case)


def _sweep(subject: Subject, kind: SiteKind, length: int) -> list[Exchange]:
    layers, everywhere = range(subject.anatomy.layers), tuple(range(length))
    if kind is SiteKind.Z:
        heads = itertools.product(layers, range(subject.anatomy.heads))
        return [Exchange(kind, layer, head, everywhere, everywhere) for layer, head in heads]
    return [Exchange(kind, layer, None, (at,), (at,)) for layer in layers for at in everywhere]


def _race(case: Case, others: Connection | None, cells: Cells, seconds: float) -> dict[str, Timed]:
    if others is None:
        return {"audit-service": _timed(_ours(case, cells), seconds=float("inf"))}
    order = [int(number) for number in np.random.default_rng(0).permutation(len(cells))]
    others.send(([cells[number] for number in order], seconds))
    before = others.recv()
    ours = _timed(_ours(case, cells), seconds=float("inf"))
    others.send("go on")
    behind = others.recv()
    both = {name: timed + behind[name] for name, timed in before.items()}
    named = {
        name: timed._replace(values={order[number]: value for number, value in timed.values.items()})
        for name, timed in both.items()
        if timed.values  # all cells of a very small model are done with the first batch
    }
    return {"audit-service": ours, **named}


def _timed(values: Iterator[dict[int, float]], seconds: float) -> Timed:
    """Let a contender go on until its time is up."""
    begin, cpu = time.perf_counter(), time.process_time()
    done: dict[int, float] = {}
    for found in values:
        done |= found
        if time.perf_counter() - begin > seconds:
            break
    return Timed(done, time.perf_counter() - begin, time.process_time() - cpu)


def _ours(case: Case, cells: Cells) -> Iterator[dict[int, float]]:
    recipient, donor = record(case.subject, case.corrupt), record(case.subject, case.clean)
    yield dict(enumerate(patch(case.subject, recipient, donor, cells, labels=case.labels).tolist()))


def _table(title: str, timed: dict[str, Timed], tolerance: float, *, work: float, plain: float) -> Table:
    """One row per contender; operations for each cell of ours, and of the others."""
    ours = timed["audit-service"]
    names = "contender, cells, s, patches/s, GFLOP/s, ours is, CPU s, by CPU, deviation"
    table = Table(*names.split(", "), title=title)
    for name, each in timed.items():
        other = timed.get("plain hooks", ours) if each is ours else ours
        shared = each.values.keys() & other.values.keys()
        deviation = max((abs(each.values[i] - other.values[i]) for i in shared), default=float("nan"))
        speed, mine = len(each.values) / each.seconds, len(ours.values) / ours.seconds
        by_cpu = (len(ours.values) / ours.cpu_seconds) / (len(each.values) / each.cpu_seconds)
        table.add_row(
            name,
            str(len(each.values)),
            f"{each.seconds:.1f}",
            f"{speed:.1f}",
            f"{speed * (work if each is ours else plain) / 1e9:.0f}",
            f"{mine / speed:.1f}x",
            f"{each.cpu_seconds:.1f}",
            f"{by_cpu:.1f}x",
            f"{deviation:.1e}{' (wrong)' if deviation > tolerance else ''} on {len(shared)}",
        )
    return table


if __name__ == "__main__":
    main()
