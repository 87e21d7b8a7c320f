"""A sweep uses again what its first layers have freed."""

import subprocess
import sys

import pytest

SECOND_SWEEP = """
import resource, sys, tempfile
from pathlib import Path
import torch
from audit_service.domain.sites import SiteKind
from tests.benchmarks.scaling import LABELS
from tests.benchmarks.work import random_model
from workers.engine import heap
from workers.engine.donors import record
from workers.engine.loading import load_subject
from workers.engine.patching import patch
from workers.engine.positions import Exchange

torch.set_num_threads(1)
with tempfile.TemporaryDirectory() as folder:
    random_model("135m", Path(folder), layers=4)
    subject = load_subject(folder, device="cpu")
clean = tuple(range(10, 60))
sides = record(subject, (9, *clean[1:])), record(subject, clean)
cells = [Exchange(SiteKind.ATTN_OUT, 0, None, (at,), (at,)) for at in range(40)]
pages = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    patch(subject, *sides, cells, labels=LABELS)
    pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
held = int(Path("/proc/self/statm").read_text().split()[1])
heap.give_back()
print(*pages, held - int(Path("/proc/self/statm").read_text().split()[1]))
"""
PAGES_OF_ONE_ACTIVATION = 1250 * 1536 * 4 // 4096
"""Rows of the flight that is largest there, and their gates."""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' C libraries have no such setting")
def test_a_second_sweep_fetches_no_new_memory_and_what_is_kept_can_be_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", SECOND_SWEEP], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *_, last, given_back = map(int, done.stdout.split())
    assert last < PAGES_OF_ONE_ACTIVATION
    assert given_back > PAGES_OF_ONE_ACTIVATION
