"""Speed of exact patching against plain hooks and installed peers, on one pair of one model.

    python -m tests.benchmarks.sweep --model FOLDER [--threads 2] [--seconds 30]

Every contender patches the same cells of the same pair; slow ones are stopped after some seconds and judged by the
cells they have done, which are drawn over the whole sweep. Speeds are per second of processor time, so that other
work on the machine matters little. A contender whose cells differ from the plain hooks' by more
than 1e-4 nats is marked as wrong. Peers are used where they can be imported: install them into an environment of their
own.
"""

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from tests.benchmarks import peers
from tests.workers.engine import naive
from workers.engine.donors import record
from workers.engine.loading import Subject, load_subject
from workers.engine.patching import patch
from workers.engine.positions import Exchange

CLEAN = (
    "The bank reviews the application of Emily for a loan. She is 35 years old, has worked as a nurse for nine years, "
    "earns 52,000 dollars a year and owes 4,000 dollars. Should the bank approve the loan? Answer:"
)
CORRUPT = CLEAN.replace("Emily", "James")
TOLERANCE = 1e-4

Cells = Sequence[Exchange]
Contender = peers.Contender


class Timed(NamedTuple):
    """What a contender did in its time."""

    values: dict[int, float]
    seconds: float
    """Of processor time."""

    @property
    def per_second(self) -> float:
        return len(self.values) / self.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30, help="for each slow contender and sweep")
    parser.add_argument("--sites", nargs="*", default=[*peers.SINGLE, SiteKind.Z], type=SiteKind)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    subject = load_subject(given.model)
    ids = [tuple(subject.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (CLEAN, CORRUPT)]
    yes, no = (subject.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (" Yes", " No"))
    labels = LabelTokens.single(favorable=yes, unfavorable=no)
    contenders: dict[str, Contender] = {
        "audit-service": lambda cells: _ours(subject, ids[0], ids[1], cells, labels),
        "plain hooks": lambda cells: _hooks(subject, ids[0], ids[1], cells, labels, batch=1),
        "plain hooks, batches of 16": lambda cells: _hooks(subject, ids[0], ids[1], cells, labels, batch=16),
        **peers.available(given.model, ids[0], ids[1], labels),
    }
    for kind in given.sites:
        title, cells = str(kind), _sweep(subject, kind, len(ids[0]))
        timed = {name: _timed(run, cells, given.seconds) for name, run in contenders.items()}
        Console().print(_table(f"{title}: {len(cells)} cells, {len(ids[0])} tokens", timed))


def _sweep(subject: Subject, kind: SiteKind, length: int) -> list[Exchange]:
    layers, everywhere = range(subject.anatomy.layers), tuple(range(length))
    if kind is SiteKind.Z:
        heads = itertools.product(layers, range(subject.anatomy.heads))
        return [Exchange(kind, layer, head, everywhere, everywhere) for layer, head in heads]
    return [Exchange(kind, layer, None, (at,), (at,)) for layer in layers for at in everywhere]


def _timed(run: Contender, cells: Cells, seconds: float) -> Timed:
    """Let a contender work on the cells in an order spread over the sweep until its time is up."""
    order = np.random.default_rng(0).permutation(len(cells))
    begin = time.process_time()
    values: dict[int, float] = {}
    for found in run([cells[i] for i in order]):
        values |= {int(order[len(values) + i]): value for i, value in enumerate(found)}
        if time.process_time() - begin > seconds:
            break
    return Timed(values, time.process_time() - begin)


def _ours(
    subject: Subject, clean: Sequence[int], corrupt: Sequence[int], cells: Cells, labels: LabelTokens
) -> Iterator[list[float]]:
    yield patch(subject, record(subject, corrupt), record(subject, clean), cells, labels=labels).tolist()


@torch.no_grad()
def _hooks(
    subject: Subject, clean: Sequence[int], corrupt: Sequence[int], cells: Cells, labels: LabelTokens, *, batch: int
) -> Iterator[list[float]]:
    """A loop that takes the donor's activations from one recording, as careful users write it."""
    kept: dict[tuple[SiteKind, int], Tensor] = {}
    for first in range(0, len(cells), batch):
        part = cells[first : first + batch]
        for kind, layer in {(cell.kind, cell.layer) for cell in part} - set(kept):
            everywhere = tuple(range(len(clean)))
            kept[kind, layer] = naive.activation(subject, clean, Exchange(kind, layer, None, everywhere, everywhere))
        logits = naive.batched_logits(subject, corrupt, [(cell, kept[cell.kind, cell.layer]) for cell in part])
        yield [naive.decision(row, labels.favorable, labels.unfavorable) for row in logits]


def _table(title: str, timed: dict[str, Timed]) -> Table:
    truth, ours = timed["plain hooks"].values, timed["audit-service"]
    table = Table("contender", "cells", "CPU s", "cells/CPU s", "ours is", "deviation", title=title)
    for name, each in timed.items():
        shared = each.values.keys() & truth.keys()
        deviation = max((abs(each.values[i] - truth[i]) for i in shared), default=float("nan"))
        verdict = f"{deviation:.1e}" + (" (wrong)" if deviation > TOLERANCE else "")
        table.add_row(
            name,
            str(len(each.values)),
            f"{each.seconds:.1f}",
            f"{each.per_second:.1f}",
            f"{ours.per_second / each.per_second:.1f}x",
            verdict,
        )
    return table


if __name__ == "__main__":
    main()
