"""Path patching equals the two-step recipe in plain hooks."""

import numpy as np
import pytest
from torch import Tensor

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidTrace
from tests.workers.engine import naive
from tests.workers.engine.models import tiny
from workers.engine.donors import record
from workers.engine.loading import Subject
from workers.engine.paths import path_patch
from workers.engine.positions import Exchange

CLEAN, CORRUPT = (5, 17, 33, 8, 21, 60), (5, 17, 44, 9, 21, 60)
LABELS = LabelTokens.single(favorable=(3, 11), unfavorable=(12,))
EVERYWHERE = tuple(range(6))
VARIANTS = ("llama", "gpt2", "qwen3", "gemma2-sliding-softcap", "gpt_neox-parallel")


def _at(kind: SiteKind, layer: int, head: int | None = None, positions: tuple[int, ...] = EVERYWHERE) -> Exchange:
    return Exchange(kind, layer, head, positions, positions)


SENDERS = [_at(SiteKind.Z, 0, 1), _at(SiteKind.MLP_OUT, 0, None, (2, 3)), _at(SiteKind.ATTN_OUT, 0)]
RECEIVERS = [
    _at(SiteKind.Q, 1, 2),
    _at(SiteKind.K, 2, 1),
    _at(SiteKind.V, 1, 0),
    _at(SiteKind.MLP_OUT, 2),
    _at(SiteKind.RESID_PRE, 2),
    _at(SiteKind.RESID_POST, 2, None, (5,)),
]


def _naive_path(subject: Subject, sender: Exchange, receiver: Exchange, *, freeze_mlps: bool) -> float:
    held: list[tuple[Exchange, Tensor]] = []
    kinds = [
        (SiteKind.ATTN_OUT, 1),
        *([(SiteKind.MLP_OUT, int(sender.kind is SiteKind.MLP_OUT))] if freeze_mlps else []),
    ]
    for kind, first in kinds:
        sites = [_at(kind, layer) for layer in range(sender.layer + first, 3)]
        held += [(site, naive.activation(subject, CORRUPT, site)) for site in sites]
    sent = (sender, naive.activation(subject, CLEAN, sender))
    heard = naive.activation(subject, CORRUPT, receiver, [sent, *held])
    return naive.decision(naive.logits(subject, CORRUPT, [(receiver, heard)]), *LABELS)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("freeze_mlps", [False, True])
@pytest.mark.parametrize("sender", SENDERS, ids=lambda sender: sender.kind)
def test_each_receiver_hears_what_plain_hooks_let_it_hear(variant: str, sender: Exchange, freeze_mlps: bool) -> None:
    subject = tiny(variant)
    heads = subject.anatomy.kv_heads
    receivers = [r for r in RECEIVERS if r.kind not in {SiteKind.K, SiteKind.V} or (r.head or 0) < heads]
    found = path_patch(
        subject,
        record(subject, CORRUPT),
        record(subject, CLEAN),
        sender,
        receivers,
        labels=LABELS,
        freeze_mlps=freeze_mlps,
    )
    expected = [_naive_path(subject, sender, receiver, freeze_mlps=freeze_mlps) for receiver in receivers]
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert np.ptp(expected) > 1e-3


@pytest.mark.parametrize(
    ("sender", "receiver", "words"),
    [
        (_at(SiteKind.RESID_PRE, 1), _at(SiteKind.Q, 2, 0), "resid_pre cannot be a sender"),
        (_at(SiteKind.Z, 1, 0), _at(SiteKind.Q, 1, 0), "q at layer 1 does not come after z at layer 1"),
        (_at(SiteKind.MLP_OUT, 1), _at(SiteKind.MLP_OUT, 1), "does not come after"),
    ],
)
def test_paths_that_do_not_exist_are_refused(sender: Exchange, receiver: Exchange, words: str) -> None:
    subject = tiny("llama")
    with pytest.raises(InvalidTrace, match=words):
        path_patch(subject, record(subject, CORRUPT), record(subject, CLEAN), sender, [receiver], labels=LABELS)
