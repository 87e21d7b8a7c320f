"""Next-token log-probabilities and the logit lens equal the model's own logits, read plainly."""

import numpy as np
import pytest
import torch

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from tests.workers.engine import naive
from tests.workers.engine.models import tiny
from workers.engine.changes import Scale
from workers.engine.donors import record
from workers.engine.lens import look
from workers.engine.losses import next_token_log_p
from workers.engine.positions import Exchange

CLEAN = (5, 17, 33, 8, 21, 60, 7, 90, 14)
CORRUPT = (5, 17, 44, 9, 21, 60, 7, 90, 14)
LABELS = LabelTokens.single(favorable=(3, 11), unfavorable=(12,))
VARIANTS = ("llama", "gemma2-sliding-softcap", "gpt2")
SETS = [
    [Exchange(SiteKind.RESID_PRE, 1, None, (2, 3), (2, 3))],
    [Exchange(SiteKind.MLP_OUT, 2, None, (4,), (4,))],
    [Exchange(SiteKind.ATTN_OUT, 0, None, (5, 8), (5, 8)), Exchange(SiteKind.Z, 2, 1, (3, 4), (3, 4))],
    [Exchange(SiteKind.RESID_POST, 2, None, (2,), (2,))],
    [Exchange(SiteKind.RESID_PRE, 1, None, (0, 1), (0, 1))],
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_next_token_of_a_patched_run_is_as_likely_as_in_plain_hooks(variant: str) -> None:
    subject = tiny(variant)
    found = next_token_log_p(subject, record(subject, CORRUPT), record(subject, CLEAN), SETS)
    expected = []
    for each in SETS:
        values = [(exchange, naive.activation(subject, CLEAN, exchange)) for exchange in each]
        rows = naive.all_logits(subject, CORRUPT, values).log_softmax(1)
        expected.append([float(rows[at, token]) for at, token in enumerate(CORRUPT[1:])])
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert np.ptp(expected, axis=0).max() > 1e-2


def test_a_change_without_a_donor_is_read_at_every_position() -> None:
    subject = tiny("llama")
    recording = record(subject, CLEAN)
    early = Exchange(SiteKind.RESID_PRE, 0, None, (0,), (0,), None, Scale(-3))
    found = next_token_log_p(subject, recording, recording, [[early], SETS[4]])
    assert (np.abs(found[0] - found[1]) > 1e-6).all()


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_the_lens_is_the_last_norm_and_the_unembedding_of_each_layers_stream(variant: str) -> None:
    subject = tiny(variant)
    found = look(subject, record(subject, CLEAN), LABELS)
    before = subject.model(torch.tensor([CLEAN]), output_hidden_states=True)
    for layer, stream in enumerate(before.hidden_states[:-1]):  # the last of them is normed already
        rows = subject.model.get_output_embeddings()(subject.anatomy.final_norm(stream))[0]
        if cap := subject.anatomy.logit_softcap:
            rows = cap * torch.tanh(rows / cap)
        _assert_row(found, layer, rows)
    _assert_row(found, -1, before.logits[0])


def _assert_row(found: object, layer: int, rows: torch.Tensor) -> None:
    expected = [naive.decision(row, *LABELS) for row in rows]
    np.testing.assert_allclose(found.d[layer], expected, atol=1e-4, rtol=0)
    assert found.token[layer].tolist() == rows.argmax(1).tolist()
    np.testing.assert_allclose(found.log_p[layer], rows.log_softmax(1).amax(1), atol=1e-4, rtol=0)
