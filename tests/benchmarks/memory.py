"""Memory that patching takes, against the budget that it was given.

    python -m tests.benchmarks.memory [--layers 100] [--tokens 8192] [--budget 1024]

A narrow model with random weights is patched in the first, middle and last layer, at the decision and from the middle
of a long prompt on. A quarter of the budget is for each of the two recordings and a quarter for runs in flight, as the
engine divides what is free (workers/engine/shelves.py). Measured is the process's largest resident memory above what it
held with the model loaded, as Linux tells it; a peak above the budget ends with status 1.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from rich.console import Console

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from tests.benchmarks.work import random_model
from workers.engine.donors import Recording, record
from workers.engine.loading import load_subject
from workers.engine.patching import patch
from workers.engine.positions import Exchange
from workers.engine.shelves import Memory
from workers.engine.subject import Subject

LABELS = LabelTokens.single(favorable=[5], unfavorable=[6])
MIB = 1 << 20


class Measured(NamedTuple):
    """Bytes, and seconds of the clock."""

    peak: int
    activations: int
    """What both recordings would take whole."""
    seconds: float


def measure(layers: int, tokens: int, budget: int) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        random_model("tiny", Path(folder), layers=layers, context=tokens)
        share = Memory(device=0, host=budget // 4, flight=budget // 4)
        subject = replace(load_subject(folder, device="cpu"), memory=share)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, begin = psutil.Process().memory_info().rss, time.perf_counter()
    clean = tuple(10 + (7 * at) % 400 for at in range(tokens))
    corrupt = (*clean[: tokens // 2], 420, *clean[tokens // 2 + 1 :])
    recipient, donor = record(subject, corrupt), record(subject, clean)
    patch(subject, recipient, donor, _cells(subject, tokens), labels=LABELS)
    return Measured(_peak() - before, 2 * _whole(subject, recipient), time.perf_counter() - begin)


def _peak() -> int:
    """Largest resident memory; getrusage would count that of the process which started this one."""
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(told["VmHWM"].split()[0]) * 1024


def _cells(subject: Subject, tokens: int) -> list[Exchange]:
    layers = subject.anatomy.layers
    return [
        Exchange(kind, layer, None, (at,), (at,))
        for kind in (SiteKind.RESID_PRE, SiteKind.MLP_OUT)
        for layer in sorted({0, layers // 2, layers - 1})
        for at in (tokens // 2, tokens - 1)
    ]


def _whole(subject: Subject, recording: Recording) -> int:
    """Bytes of all activations of a prompt, from those of its first layer."""
    heads = recording.heads[0]
    streams = (recording.resid[0], recording.z[0], recording.attn_out[0], recording.mlp_out[0], *heads[:3])
    return subject.anatomy.layers * sum(stream.nbytes for stream in streams)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--budget", type=int, default=1024, help="MiB")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = measure(given.layers, given.tokens, given.budget * MIB)
    Console(width=132).print(
        f"{given.layers} layers, {given.tokens} tokens: peak {found.peak // MIB} MiB, budget {given.budget} MiB, "
        f"activations of both prompts {found.activations // MIB} MiB, {found.seconds:.0f} s"
    )
    sys.exit(found.peak > given.budget * MIB)


if __name__ == "__main__":
    main()
