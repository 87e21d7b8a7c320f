"""Cells equal those of TransformerLens, nnsight and pyvene, run in an environment of their own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from tests.oracle.jobs import Job, write
from tests.workers.engine.models import tiny
from tests.workers.engine.words import tokenizer
from workers.engine.donors import record
from workers.engine.loading import Subject, load_subject
from workers.engine.patching import patch
from workers.engine.positions import Exchange

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-4
"""Nats. Whole effects are tenths of a nat, so a looser one would prove nothing."""
VARIANTS = ["gpt2", "llama", "qwen3", "phi3", "gemma2-sliding-softcap", "gpt_neox-parallel", "mistral-sliding", "opt"]
UNLIKE: dict[str, set[str]] = {
    "transformer_lens": set(),
    "nnsight": set(),
    "pyvene": {"qwen3", "phi3", "gemma2-sliding-softcap", "gpt_neox-parallel", "mistral-sliding", "opt"},
}
"""Families that a peer does not know, or whose sites it defines otherwise."""
CLEAN, CORRUPT = (5, 17, 33, 8, 21, 60, 44, 9), (5, 17, 44, 9, 21, 61, 44, 9)
LABELS = LabelTokens.single(favorable=(3, 11), unfavorable=(12,))
Processes = dict[str, subprocess.Popen[str]]
CellsOfJobs = dict[tuple[str, tuple[int, ...]], np.ndarray]
"""By model and donor prompt."""
KINDS = (SiteKind.RESID_PRE, SiteKind.ATTN_OUT, SiteKind.MLP_OUT)


@pytest.fixture(scope="session")
def oracle() -> Path:
    """The peers' Python; made on the first use."""
    subprocess.run(["tests/oracle/setup.sh", sys.executable], cwd=ROOT, check=True, timeout=600)
    return ROOT / "build/oracle/bin/python"


@pytest.fixture(scope="session")
def jobs(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> list[Job]:
    """Both directions of every tiny model, and a few cells of the real one."""
    found = []
    for variant in VARIANTS:
        folder = tmp_path_factory.mktemp(variant, numbered=False)
        words = tokenizer()
        subject = tiny(variant, tokenizer=words, vocabulary=len(words))
        subject.model.save_pretrained(folder)
        words.save_pretrained(folder)
        cells = _drawn(subject, len(CLEAN), share=0.25)
        found += [Job(str(folder), *ids, LABELS, cells) for ids in ((CLEAN, CORRUPT), (CORRUPT, CLEAN))]
    subject = load_subject(demo_model, device="cpu")
    texts = [f"The bank reviews the loan that {name} wants. Approve? Answer:" for name in ("Emily", "James")]
    clean, corrupt = (tuple(subject.tokenizer(text)["input_ids"]) for text in texts)
    cells = _drawn(subject, len(clean), share=0.008)
    yes, no = (subject.tokenizer(text)["input_ids"][0] for text in (" Yes", " No"))
    return [*found, Job(str(demo_model), clean, corrupt, LabelTokens.single(favorable=[yes], unfavorable=[no]), cells)]


def _drawn(subject: Subject, length: int, *, share: float) -> list[Exchange]:
    """A random part of all cells."""
    layers, everywhere = range(subject.anatomy.layers), tuple(range(length))
    single = [Exchange(kind, layer, None, (at,), (at,)) for kind in KINDS for layer in layers for at in everywhere]
    heads = [(layer, head) for layer in layers for head in range(subject.anatomy.heads)]
    cells = single + [Exchange(SiteKind.Z, layer, head, everywhere, everywhere) for layer, head in heads]
    rng = np.random.default_rng(len(cells))
    return [cell for cell in cells if rng.random() < share]


@pytest.fixture(scope="session")
def ours(jobs: list[Job]) -> CellsOfJobs:
    found = {}
    for job in jobs:
        subject = load_subject(job.folder, device="cpu")
        recordings = record(subject, job.corrupt), record(subject, job.clean)
        found[job.name, job.clean] = patch(subject, *recordings, job.cells, labels=job.labels)
    return found


@pytest.fixture(scope="session")
def at_work(oracle: Path, jobs: list[Job], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """All peers side by side: what takes longest is importing them."""
    folder = tmp_path_factory.mktemp("answers")
    processes = {}
    for peer, unlike in UNLIKE.items():
        write(_known(jobs, unlike), folder / f"{peer}.json")
        processes[peer] = subprocess.Popen(
            [oracle, "-W", "ignore", "-m", "tests.oracle.jobs", peer, folder / f"{peer}.json"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    yield processes
    for process in processes.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("peer", UNLIKE)
def test_every_cell_equals_the_peers(
    peer: str,
    at_work: dict[str, subprocess.Popen[str]],
    jobs: list[Job],
    ours: dict[tuple[str, tuple[int, ...]], np.ndarray],
) -> None:
    answers, problems = at_work[peer].communicate(timeout=300)
    assert at_work[peer].returncode == 0, problems[-3000:]
    for job, answer in zip(_known(jobs, UNLIKE[peer]), json.loads(answers.splitlines()[-1]), strict=True):
        cells = ours[job.name, job.clean]
        deviation = np.abs(cells - np.array(answer))
        worst = int(deviation.argmax())
        assert deviation.max() < TOLERANCE, f"{job.name}: {job.cells[worst]} by {deviation[worst]:.2g}"
        assert np.ptp(cells) > 0.02


def _known(jobs: list[Job], unlike: set[str]) -> list[Job]:
    return [job for job in jobs if job.name not in unlike]
