"""What a peer is asked to compute, as a file between two environments.

    build/oracle/bin/python -m tests.oracle.jobs PEER FILE

computes the file's jobs with one peer and prints the decision values as its last line, a list for each job.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from transformers.utils.logging import disable_progress_bar

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from tests.benchmarks import peers
from tests.benchmarks.peers import Case, Contender
from workers.engine.loading import load_subject
from workers.engine.positions import Exchange

PEERS: dict[str, Callable[[Case], Contender]] = {
    "transformer_lens": peers.transformer_lens,
    "nnsight": lambda case: peers.nnsight(case, batch=32),
    "pyvene": lambda case: peers.pyvene(case, batch=16),
}


class Job(NamedTuple):
    """Cells of one direction: donor activations from ``clean`` go into ``corrupt``."""

    folder: str
    clean: tuple[int, ...]
    corrupt: tuple[int, ...]
    labels: LabelTokens
    cells: list[Exchange]

    @property
    def name(self) -> str:
        return Path(self.folder).name


def write(jobs: list[Job], file: Path) -> None:
    """Write jobs of whole exchanges: peers are asked for nothing else."""
    assert all(cell.is_whole for job in jobs for cell in job.cells)
    file.write_text(json.dumps([(*job[:-1], [cell[:5] for cell in job.cells]) for job in jobs]))


def read(file: Path) -> list[Job]:
    return [_job(*values) for values in json.loads(file.read_text())]


def _job(
    folder: str,
    clean: list[int],
    corrupt: list[int],
    labels: list[list[list[int]]],
    cells: list[tuple[str, int, int | None, list[int], list[int]]],
) -> Job:
    made = [Exchange(SiteKind(kind), layer, head, tuple(to), tuple(by)) for kind, layer, head, to, by in cells]
    return Job(folder, tuple(clean), tuple(corrupt), LabelTokens(*(tuple(map(tuple, side)) for side in labels)), made)


def compute(peer: str, job: Job) -> list[float]:
    subject = load_subject(job.folder, device="cpu")
    case = Case(subject, Path(job.folder), job.clean, job.corrupt, job.labels)
    found: dict[int, float] = {}
    for values in PEERS[peer](case)(job.cells):
        found |= values
    return [found[number] for number in range(len(job.cells))]


if __name__ == "__main__":
    disable_progress_bar()
    torch.set_num_threads(1)
    answers = [compute(sys.argv[1], job) for job in read(Path(sys.argv[2]))]
    sys.stdout.write(f"\n{json.dumps(answers)}\n")
