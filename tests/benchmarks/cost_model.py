"""Predicted against measured time and memory of a plan's shards, after a short calibration on this machine.

    python -m tests.benchmarks.cost_model --model FOLDER [--audit examples/loan-denial.yaml] [--threads 1]

The prediction is made as the service makes it: tokens from a preview of the pairs, work counted from the plan, time and
memory from one calibration. Measured are the shards themselves, as a worker traces them, in processor time on the CPU
and in wall time on an accelerator, each shard after a calibration of its own, so that a machine with changing load
judges both alike.
"""

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.table import Table

from audit_service.auditfiles import read_audit, read_pairs
from audit_service.domain.cost import estimate
from audit_service.domain.forecast import forecast
from audit_service.domain.generation import generate
from audit_service.domain.plan import Shard
from audit_service.domain.planning import compose
from audit_service.domain.shards import shards
from audit_service.registry.inspection import inspect
from workers.engine.costs import calibrate, clock_of
from workers.engine.loading import load_subject
from workers.engine.subject import Subject
from workers.engine.tokens import labels_of, prompts_of
from workers.leases import Lease
from workers.tasks.preview import preview_pairs
from workers.tasks.trace import trace_shard


class Peak:
    """The largest memory while a block runs: of the device, or the process's resident pages, looked at each 2 ms."""

    def __init__(self, subject: Subject) -> None:
        self.cuda = subject.device.type == "cuda"
        self.bytes = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(over,))
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            if self.cuda:
                self.bytes = torch.cuda.max_memory_allocated()

    def _watch(self, over: threading.Event) -> None:
        process = psutil.Process()
        while not self.cuda and not over.wait(0.002):
            self.bytes = max(self.bytes, process.memory_info().rss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--audit", type=Path, default=Path("examples/loan-denial.yaml"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--shards", type=int, default=2, help="effect shards of each form that are measured")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    Console(width=130).print(_measured(given))


def _measured(given: argparse.Namespace) -> Table:
    subject = load_subject(given.model, device=given.device, dtype=given.dtype)
    audit = read_audit(given.audit)
    pair_set = read_pairs(given.audit, audit) or generate(audit.behavior)
    identity = inspect(given.model, name="benchmark", version="1", dtype=given.dtype)
    plan = compose(identity, audit.behavior, pair_set, tracing=audit.tracing, judging=audit.judging)
    preview = preview_pairs(subject, audit.behavior, pair_set.pairs)
    cut = shards(plan, pair_set)
    whole = estimate(plan, pair_set, cut, preview)
    pairs = {pair.id: pair for pair in pair_set.pairs}
    names = "shard, pairs, forward equivalents, predicted s, measured s, ratio, predicted GB, measured GB, ratio"
    title = f"{whole.shards} shards, {whole.forward_equivalents:.0f} forward equivalents"
    table = Table(*names.split(", "), title=title)
    clock = clock_of(subject)
    labels = labels_of(subject, audit.behavior.labels)
    for shard in _chosen(cut, given.shards):
        ours = tuple(pairs[name] for name in shard.pair_ids)
        first = prompts_of(subject, ours[0])
        calibration = calibrate(subject, first.clean_ids, first.corrupt_ids, labels, clock=clock)
        cost = estimate(plan, pair_set.model_copy(update={"pairs": ours}), [shard], preview)
        assert cost.work is not None
        told = forecast(calibration, cost.work, tokens=cost.tokens, read_at_once=cost.read_at_once)
        lease: Any = Lease("", shard.key, shard.kind, shard.form, shard.direction, shard.corruption, shard.sites, plan,
                           given.model, "", ours, {})  # fmt: skip
        peak = Peak(subject)
        begin = clock()
        with peak.watching():
            trace_shard(subject, lease, _quiet())
        seconds = clock() - begin
        table.add_row(
            f"{shard.form} {shard.kind} {shard.direction or ''}", str(len(ours)), f"{cost.forward_equivalents:.1f}",
            f"{told.seconds:.2f}", f"{seconds:.2f}", f"{told.seconds / seconds:.2f}",
            f"{told.memory_bytes / 1e9:.2f}", f"{peak.bytes / 1e9:.2f}", f"{told.memory_bytes / peak.bytes:.2f}",
        )  # fmt: skip
    return table


def _chosen(cut: tuple[Shard, ...], count: int) -> list[Shard]:
    """Of each form the first shard of decisions and some of effects."""
    seen: dict[tuple[str, str], list[Shard]] = {}
    for shard in cut:
        seen.setdefault((shard.form, str(shard.kind)), []).append(shard)
    return [shard for (_, kind), found in seen.items() for shard in found[: count if kind == "effects" else 1]]


def _quiet() -> Any:
    return SimpleNamespace(progress=lambda *_: None, should_stop=lambda: False)


if __name__ == "__main__":
    main()
