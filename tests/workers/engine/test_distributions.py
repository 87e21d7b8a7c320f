"""Readouts of patched runs equal plain softmax arithmetic over naive forwards."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp, rel_entr

from audit_service.domain.labels import LabelTokens
from audit_service.domain.plan import Corruption, Direction, Tracing
from audit_service.domain.sites import DECISION, Site, SiteKind
from audit_service.errors import InvalidTrace
from tests.workers.engine import naive
from tests.workers.engine.models import tiny
from workers.engine import distributions
from workers.engine.distributions import READOUTS, Readouts
from workers.engine.donors import record
from workers.engine.loading import Subject
from workers.engine.patching import patch_together, read_together
from workers.engine.positions import Exchange
from workers.engine.tokens import EncodedPair, EncodedPrompt
from workers.engine.variants import Setting, trace_variant

CLEAN = (5, 17, 33, 8, 21, 60, 7, 90, 14)
CORRUPT = (5, 17, 44, 9, 21, 60, 7, 90, 14)
LABELS = LabelTokens.single(favorable=(3, 11), unfavorable=(12,))
SETS = [
    (Exchange(SiteKind.RESID_PRE, 1, None, (2, 3), (2, 3)),),
    (Exchange(SiteKind.ATTN_OUT, 0, None, (8,), (8,)), Exchange(SiteKind.MLP_OUT, 1, None, (4, 8), (4, 8))),
    (Exchange(SiteKind.Z, 2, 1, (8,), (8,)),),
    (Exchange(SiteKind.RESID_PRE, 1, None, (0, 1), (0, 1)),),
]
SPANS = {"before": (0, 1), "cue": (2, 3), "after": (4, 5, 6, 7), DECISION: (8,)}
PAIR = EncodedPair("pair", EncodedPrompt(CLEAN, SPANS), EncodedPrompt(CORRUPT, SPANS))


def _patched_logits(subject: Subject, exchanges: tuple[Exchange, ...]) -> np.ndarray:
    values = [(each, naive.activation(subject, CLEAN, each)) for each in exchanges]
    return naive.logits(subject, CORRUPT, values).double().numpy()


def _expected(rows: np.ndarray, donor: np.ndarray) -> tuple[float, ...]:
    own, others = log_softmax(rows), log_softmax(donor)
    favorable, unfavorable = (logsumexp(own[list(side)]) for side in LABELS)
    p, q = np.exp(others), np.exp(own)
    middle = (p + q) / 2
    rank = int(np.flatnonzero(np.isin(np.argsort(-rows), LABELS.favorable))[0]) + 1
    js = (rel_entr(p, middle).sum() + rel_entr(q, middle).sum()) / 2
    return favorable - unfavorable, favorable, unfavorable, rel_entr(p, q).sum(), js, rank, logsumexp(rows)


def _table(found: Readouts) -> np.ndarray:
    return np.stack([getattr(found, name) for name in READOUTS], axis=1)


@pytest.mark.parametrize("variant", ["llama", "gpt2", "gemma2-sliding-softcap"])
def test_every_readout_equals_plain_softmax_arithmetic(variant: str) -> None:
    subject = tiny(variant)
    found = read_together(subject, record(subject, CORRUPT), record(subject, CLEAN), SETS, labels=LABELS)
    donor = naive.logits(subject, CLEAN).double().numpy()
    expected = [_expected(_patched_logits(subject, each), donor) for each in SETS]
    np.testing.assert_allclose(_table(found), expected, atol=1e-4, rtol=0)
    assert np.ptp(expected, axis=0).min() > 1e-3


def test_a_pairs_readouts_come_with_those_of_its_unpatched_runs() -> None:
    subject = tiny("llama")
    sites = [Site(SiteKind.RESID_PRE, layer, None, segment) for layer in range(3) for segment in ("cue", "after")]
    found, plain = (
        trace_variant(
            subject, PAIR, [site.parts for site in sites],
            Setting(Direction.NOISE, Corruption.PAIR, Tracing(), all_readouts=whole), labels=LABELS,
        )
        for whole in (True, False)
    )  # fmt: skip
    assert plain.readouts is None
    assert found.readouts is not None
    assert found.unpatched is not None
    np.testing.assert_allclose(found.readouts.d, plain.patched, atol=1e-5)
    clean, corrupt = (naive.logits(subject, ids).double().numpy() for ids in (CLEAN, CORRUPT))
    expected = [_expected(rows, corrupt) for rows in (clean, corrupt)]
    np.testing.assert_allclose(_table(found.unpatched), expected, atol=1e-4, rtol=0)


def test_a_run_that_is_the_donor_has_no_divergence() -> None:
    subject = tiny("llama")
    recording = record(subject, CLEAN)
    found = read_together(subject, recording, recording, SETS[:1], labels=LABELS)
    assert found.kl.tolist() == [0.0]
    assert found.js.tolist() == pytest.approx([0.0], abs=1e-7)


def test_many_runs_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = tiny("llama")
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    whole = read_together(subject, recipient, donor, SETS, labels=LABELS)
    monkeypatch.setattr(distributions, "MOST_LOGITS", 1)
    found = read_together(subject, recipient, donor, SETS, labels=LABELS)
    np.testing.assert_allclose(_table(found), _table(whole), atol=1e-5)


def test_the_decision_value_is_that_of_the_labels_rows_alone() -> None:
    subject = tiny("qwen3")
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    found = read_together(subject, recipient, donor, SETS, labels=LABELS)
    np.testing.assert_allclose(found.d, patch_together(subject, recipient, donor, SETS, labels=LABELS), atol=1e-5)


def test_logits_that_are_no_numbers_are_refused() -> None:
    subject = tiny("llama")
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    with torch.no_grad():
        subject.anatomy.final_norm.weight.fill_(torch.nan)
    with pytest.raises(InvalidTrace, match="not finite"):
        read_together(subject, recipient, donor, SETS, labels=LABELS)
