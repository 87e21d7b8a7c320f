"""Cells equal those of TransformerLens, nnsight and pyvene, run in an environment of their own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import HEAD_KINDS, SiteKind
from tests.oracle.jobs import Job, write
from tests.workers.engine.models import tiny
from tests.workers.engine.words import tokenizer
from workers.engine.donors import record
from workers.engine.loading import Subject, load_subject
from workers.engine.patching import patch
from workers.engine.placing import heads_of
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
CellsOfJobs = dict[tuple[str, tuple[int, ...]], dict[Exchange, np.float32]]
"""By model and donor prompt."""
OUTSIDE = frozenset({SiteKind.RESID_PRE, SiteKind.RESID_POST, SiteKind.ATTN_OUT, SiteKind.MLP_OUT, SiteKind.Z})
OFFERED: dict[str, frozenset[SiteKind]] = {
    "transformer_lens": frozenset(SiteKind) - {SiteKind.NEURONS, SiteKind.RESID_MID},
    "nnsight": OUTSIDE,
    "pyvene": OUTSIDE,
}
"""Sites that a peer has names for; the bridge's hook_resid_mid changes what the MLP reads, not what it adds to."""
ODD = {("transformer_lens", "opt"): {SiteKind.PATTERN}}
"""Where a peer stands alone against plain hooks, transformers' own attention weights and ours."""


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
    absent = {SiteKind.NEURONS, SiteKind.RESID_MID} if subject.anatomy.parallel else {SiteKind.NEURONS}
    kinds = [kind for kind in SiteKind if kind not in absent | HEAD_KINDS]
    cells = [Exchange(kind, layer, None, (at,), (at,)) for kind in kinds for layer in layers for at in everywhere]
    cells += [
        Exchange(kind, layer, head, everywhere, everywhere)
        for kind in SiteKind
        if kind in HEAD_KINDS
        for layer in layers
        for head in range(heads_of(subject.anatomy, kind))
    ]
    rng = np.random.default_rng(len(cells))
    return [cell for cell in cells if rng.random() < share]


@pytest.fixture(scope="session")
def ours(jobs: list[Job]) -> CellsOfJobs:
    found = {}
    for job in jobs:
        subject = load_subject(job.folder, device="cpu")
        recordings = record(subject, job.corrupt), record(subject, job.clean)
        cells = patch(subject, *recordings, job.cells, labels=job.labels)
        found[job.name, job.clean] = dict(zip(job.cells, cells, strict=True))
    return found


@pytest.fixture(scope="session")
def at_work(oracle: Path, jobs: list[Job], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """All peers side by side: what takes longest is importing them."""
    folder = tmp_path_factory.mktemp("answers")
    processes = {}
    for peer in UNLIKE:
        write(_asked(peer, jobs), folder / f"{peer}.json")
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
    at_work: Processes,
    jobs: list[Job],
    ours: CellsOfJobs,
) -> None:
    answers, problems = at_work[peer].communicate(timeout=300)
    assert at_work[peer].returncode == 0, problems[-3000:]
    for job, answer in zip(_asked(peer, jobs), json.loads(answers.splitlines()[-1]), strict=True):
        cells = np.array([ours[job.name, job.clean][cell] for cell in job.cells])
        deviation = np.abs(cells - np.array(answer))
        worst = int(deviation.argmax())
        assert deviation.max() < TOLERANCE, f"{job.name}: {job.cells[worst]} by {deviation[worst]:.2g}"
        assert np.ptp(cells) > 0.02


def _asked(peer: str, jobs: list[Job]) -> list[Job]:
    """The jobs of models that the peer knows, with the cells that it has names for."""
    return [
        job._replace(
            cells=[cell for cell in job.cells if cell.kind in OFFERED[peer] - ODD.get((peer, job.name), set())]
        )
        for job in jobs
        if job.name not in UNLIKE[peer]
    ]
