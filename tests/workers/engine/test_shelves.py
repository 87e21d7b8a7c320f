"""A recording that its memory cannot hold gives the same numbers, and the memory is kept to."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import HEAD_KINDS, SiteKind
from tests.workers.engine.models import tiny
from workers.engine.donors import Recording, record, record_entry
from workers.engine.patching import patch
from workers.engine.placing import heads_of
from workers.engine.positions import Exchange
from workers.engine.runs import Edit, Stage
from workers.engine.shelves import Memory, Shelf
from workers.engine.subject import Subject

CLEAN = (5, 17, 33, 8, 21, 60, 7, 90, 14)
CORRUPT = (5, 17, 44, 9, 21, 60, 7, 90, 14)
LABELS = LabelTokens(favorable=((3, 4), (11,)), unfavorable=((12,),))


def _small(subject: Subject, *, host: int) -> Subject:
    return replace(subject, memory=Memory(device=0, host=host))


def _exchanges(subject: Subject) -> list[Exchange]:
    kinds = [kind for kind in SiteKind if not (kind is SiteKind.RESID_MID and subject.anatomy.parallel)]
    return [
        Exchange(kind, layer, 0 if kind in HEAD_KINDS else None, at, at)
        for kind, layer in itertools.product(kinds, range(subject.anatomy.layers))
        for at in ((3,), (4, 8))
        if kind not in HEAD_KINDS or heads_of(subject.anatomy, kind)
    ]


@pytest.mark.parametrize("variant", ["llama", "gemma2-sliding-softcap", "gpt_neox-parallel"])
@pytest.mark.parametrize("host", [0, 6_000, 20_000])
def test_cells_do_not_depend_on_what_is_kept(variant: str, host: int) -> None:
    whole = tiny(variant)
    exchanges = _exchanges(whole)
    cells = []
    for subject in (whole, _small(whole, host=host)):
        recipient, donor = (record(subject, ids, neurons=True) for ids in (CORRUPT, CLEAN))
        cells.append(patch(subject, recipient, donor, exchanges, labels=LABELS))
    np.testing.assert_allclose(cells[1], cells[0], atol=1e-6, rtol=0)


def test_layers_that_are_computed_again_hold_the_same_bytes_and_edits() -> None:
    whole = tiny("llama")
    entry = record(whole, CLEAN).entry
    last = entry.hidden.new_tensor([8]).long()
    edits = [
        Edit(stage, layer, None, last, entry.hidden[3:4]) for stage in (Stage.RESID, Stage.MLP_OUT) for layer in (0, 2)
    ]
    kept, again = (
        record_entry(subject, entry, edits=edits, neurons=True) for subject in (whole, _small(whole, host=9_000))
    )
    for name in ("resid", "z", "attn_out", "mlp_out", "neurons"):
        one, other = getattr(kept, name), getattr(again, name)
        for layer in (*reversed(range(len(one))), *range(len(one))):
            assert one[layer].equal(other[layer]), (name, layer)
    assert _missing(again)
    assert not _missing(kept)


def _missing(recording: Recording) -> int:
    shelves = (recording.resid, recording.heads, recording.z, recording.attn_out, recording.mlp_out)
    return sum(not shelf.has(layer) for shelf in shelves if isinstance(shelf, Shelf) for layer in range(len(shelf)))


@pytest.mark.parametrize("host", [0, 10_000, 60_000])
def test_a_recording_keeps_no_more_than_its_memory_holds(host: int) -> None:
    recording = record(_small(tiny("llama"), host=host), CLEAN * 6, neurons=True)
    shelves = [getattr(recording, name) for name in ("resid", "heads", "z", "attn_out", "mlp_out", "neurons")]
    kept = [shelf[layer] for shelf in shelves for layer in range(len(shelf)) if shelf.has(layer)]
    tensors = [part for value in kept for part in (value if isinstance(value, tuple) else (value,))]
    held = sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))
    assert held <= host
    assert held > host / 2 or not host
