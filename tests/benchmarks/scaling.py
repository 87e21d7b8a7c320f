"""How the cost of a sweep grows with layers, positions, pairs and the model's size.

    python -m tests.benchmarks.scaling [--threads 2] [--device cuda --dtype bfloat16] [--out scaling.svg [--cpu]]

Models have random weights. Each row says how long the cells took, and how much of the bound that is: the time of the
work that must be done (work.py) at the speed of the largest matrix products of this process. The picture shows seconds
against the work: on one line, cost follows the work alone.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from tests.benchmarks.work import SHAPES, matmul_peak, random_model, work
from workers.engine.donors import record
from workers.engine.loading import load_subject
from workers.engine.patching import patch
from workers.engine.positions import Exchange
from workers.engine.subject import Subject

LABELS = LabelTokens.single(favorable=[5], unfavorable=[6])


class Setting(NamedTuple):
    """A sweep of the residual stream before every layer, at every position."""

    varies: str
    shape: str = "135m"
    layers: int = 8
    positions: int = 32
    pairs: int = 1
    differs_at: int = 0


def settings(shapes: list[str]) -> Iterator[Setting]:
    yield from (Setting("layers", layers=layers) for layers in (4, 8, 16))
    yield from (Setting("positions", layers=4, positions=positions) for positions in (16, 32, 64, 128))
    yield from (Setting("pairs", layers=4, pairs=pairs) for pairs in (1, 2, 4))
    yield from (Setting("first difference", layers=4, positions=64, differs_at=at) for at in (0, 32, 56))
    yield from (Setting("size", shape=shape, layers=4) for shape in shapes)


class Measured(NamedTuple):
    cells: int
    seconds: float
    cpu_seconds: float
    work: float
    peak: float


def measure(setting: Setting, *, device: str, dtype: str) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        random_model(setting.shape, Path(folder), dtype=dtype, layers=setting.layers)
        subject = load_subject(folder, device=device, dtype=dtype)
    pairs = [_pair(setting, number) for number in range(setting.pairs)]
    peak = matmul_peak(subject)
    begin, cpu = time.perf_counter(), time.process_time()
    cells = [_sweep(subject, clean, corrupt) for clean, corrupt in pairs]
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
    must = sum(work(subject.model, subject.anatomy, made, *pair) for made, pair in zip(cells, pairs, strict=True))
    return Measured(sum(map(len, cells)), seconds, cpu_seconds, must, max(peak, matmul_peak(subject)))


def _pair(setting: Setting, number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    clean = [10 + (7 * at + number) % 400 for at in range(setting.positions)]
    corrupt = [*clean]
    corrupt[setting.differs_at] += 1
    return tuple(clean), tuple(corrupt)


def _sweep(subject: Subject, clean: tuple[int, ...], corrupt: tuple[int, ...]) -> list[Exchange]:
    cells = [
        Exchange(SiteKind.RESID_PRE, layer, None, (at,), (at,))
        for layer in range(subject.anatomy.layers)
        for at in range(len(clean))
    ]
    patch(subject, record(subject, corrupt), record(subject, clean), cells, labels=LABELS)
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=["135m", "360m", "1b"])
    parser.add_argument("--out", type=Path, help="file for the picture (.svg)")
    parser.add_argument("--cpu", action="store_true", help="draw processor seconds: other work touches them less")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    measure(Setting("warming up", layers=2), device=given.device, dtype=given.dtype)
    rows = [(each, measure(each, device=given.device, dtype=given.dtype)) for each in settings(given.shapes)]
    Console(width=120).print(_table(rows, f"{given.dtype}, {given.device}, {given.threads} threads"))
    if given.out:
        _draw(rows, given.out, cpu=given.cpu)


def _table(rows: list[tuple[Setting, Measured]], title: str) -> Table:
    names = "varies, model, layers, tokens, pairs, differs at, cells, s, CPU s, TFLOP, of the bound"
    table = Table(*names.split(", "), title=title)
    for setting, found in rows:
        table.add_row(
            *map(str, setting),
            str(found.cells),
            f"{found.seconds:.2f}",
            f"{found.cpu_seconds:.2f}",
            f"{found.work / 1e12:.3f}",
            f"{found.work / found.peak / found.seconds:.0%}",
        )
    return table


def _draw(rows: list[tuple[Setting, Measured]], out: Path, *, cpu: bool) -> None:
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for varies in dict.fromkeys(setting.varies for setting, _ in rows):
        same = [found for setting, found in rows if setting.varies == varies]
        mine = sorted((found.work / 1e12, found.cpu_seconds if cpu else found.seconds) for found in same)
        axes.loglog(*zip(*mine, strict=True), marker="o", label=varies)
    ends = [min(found.work for _, found in rows), max(found.work for _, found in rows)]
    peak = max(found.peak for _, found in rows)
    axes.loglog([end / 1e12 for end in ends], [end / peak for end in ends], color="grey", label="bound")
    axes.set(xlabel="work that must be done, TFLOP", ylabel="processor seconds" if cpu else "seconds")
    axes.legend(title="varies")
    figure.savefig(out)


if __name__ == "__main__":
    main()
