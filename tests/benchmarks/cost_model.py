"""Predicted against measured cost of sweeps, after a short calibration on this machine.

    python -m tests.benchmarks.cost_model --model FOLDER [--threads 1]

Prints, for each shape of a sweep, predicted and measured seconds of processor time and their ratio; calibrations are
made anew between the shapes, so that a machine with changing load judges both alike.
"""

import argparse
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from tests.benchmarks.sweep import CLEAN, CORRUPT
from workers.engine.costs import Sets, calibrate, work_of
from workers.engine.donors import record
from workers.engine.loading import load_subject
from workers.engine.patching import patch_together
from workers.engine.positions import Exchange
from workers.engine.subject import Subject


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    subject = load_subject(given.model)
    clean, corrupt = (_tokens(subject, text) for text in (CLEAN, CORRUPT))
    labels = LabelTokens(*((_tokens(subject, text)[:1],) for text in (" Yes", " No")))
    recipient, donor = record(subject, corrupt), record(subject, clean)
    table = Table("sweep", "cells", "forward equivalents", "GFLOP", "predicted s", "measured s", "predicted / measured")
    for name, sets in _shapes(subject, len(clean)).items():
        calibration = calibrate(subject, clean, corrupt, labels)
        work = work_of(subject, recipient, donor, sets)
        begin = time.process_time()
        patch_together(subject, recipient, donor, sets, labels=labels)
        measured, predicted = time.process_time() - begin, calibration.seconds(work)
        counted = f"{work.forward_equivalents:.1f}", f"{work.flops / 1e9:.0f}"
        times = f"{predicted:.2f}", f"{measured:.2f}", f"{predicted / measured:.2f}"
        table.add_row(name, str(len(sets)), *counted, *times)
    Console().print(table)


def _tokens(subject: Subject, text: str) -> tuple[int, ...]:
    return tuple(subject.tokenizer(text, add_special_tokens=False)["input_ids"])


def _shapes(subject: Subject, length: int) -> dict[str, Sets]:
    layers, heads, everywhere = range(subject.anatomy.layers), range(subject.anatomy.heads), tuple(range(length))
    late = range(length - 12, length)
    return {
        "residual stream, every 4th token": [
            (Exchange(SiteKind.RESID_PRE, layer, None, (at,), (at,)),) for layer in layers for at in everywhere[::4]
        ],
        "MLP outputs, last 12 tokens": [
            (Exchange(SiteKind.MLP_OUT, layer, None, (at,), (at,)),) for layer in layers for at in late
        ],
        "heads of every 3rd layer, all tokens": [
            (Exchange(SiteKind.Z, layer, head, everywhere, everywhere),) for layer in layers[::3] for head in heads
        ],
        "attention windows of 3 layers, decision": [
            tuple(Exchange(SiteKind.ATTN_OUT, layer + step, None, (length - 1,), (length - 1,)) for step in range(3))
            for layer in layers[:-2]
        ],
    }


if __name__ == "__main__":
    main()
