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


SENDERS = [
    _at(SiteKind.Z, 0, 1),
    _at(SiteKind.MLP_OUT, 0, None, (2, 3)),
    _at(SiteKind.ATTN_OUT, 0),
    _at(SiteKind.NEURONS, 0, None, (2, 3, 5)),
]
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
    behind = int(sender.kind in {SiteKind.NEURONS, SiteKind.MLP_OUT})
    kinds = [(SiteKind.ATTN_OUT, 1), *([(SiteKind.MLP_OUT, behind)] if freeze_mlps else [])]
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
        record(subject, CLEAN, neurons=True),
        [sender],
        [[receiver] for receiver in receivers],
        labels=LABELS,
        freeze_mlps=freeze_mlps,
    )
    expected = [_naive_path(subject, sender, receiver, freeze_mlps=freeze_mlps) for receiver in receivers]
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert np.ptp(expected) > 1e-3


SAME_LAYER = {
    SiteKind.Q: [_at(SiteKind.Z, 1, 2), _at(SiteKind.ATTN_OUT, 1), _at(SiteKind.NEURONS, 1), _at(SiteKind.MLP_OUT, 1)],
    SiteKind.V: [_at(SiteKind.Z, 1, 2), _at(SiteKind.Z, 1, 3), _at(SiteKind.RESID_POST, 1)],
    SiteKind.Z: [_at(SiteKind.ATTN_OUT, 1), _at(SiteKind.NEURONS, 1), _at(SiteKind.RESID_POST, 1)],
    SiteKind.ATTN_OUT: [_at(SiteKind.NEURONS, 1), _at(SiteKind.MLP_OUT, 1)],
    SiteKind.NEURONS: [_at(SiteKind.MLP_OUT, 1), _at(SiteKind.RESID_POST, 1)],
}
"""Receivers that hear a sender of their own layer; heads 2 and 3 of the tiny models share keys and values."""


@pytest.mark.parametrize("variant", ["llama", "gpt2"])
@pytest.mark.parametrize("kind", SAME_LAYER)
def test_receivers_in_the_senders_layer_hear_what_plain_hooks_let_them_hear(variant: str, kind: SiteKind) -> None:
    subject = tiny(variant)
    sender = _at(kind, 1, {SiteKind.Q: 2, SiteKind.V: 1, SiteKind.Z: 2}.get(kind))
    recipient, donor = (record(subject, ids, neurons=True) for ids in (CORRUPT, CLEAN))
    grouped = subject.anatomy.kv_heads < subject.anatomy.heads
    receivers = [r for r in SAME_LAYER[kind] if grouped or kind is not SiteKind.V or r.head is None]
    heard = path_patch(subject, recipient, donor, [sender], [[each] for each in receivers], labels=LABELS)
    expected = [_naive_path(subject, sender, receiver, freeze_mlps=False) for receiver in receivers]
    np.testing.assert_allclose(heard, expected, atol=1e-4, rtol=0)
    own = naive.decision(naive.logits(subject, CORRUPT), *LABELS)
    assert np.abs(np.array(expected) - own).min() > 1e-4


def test_heads_of_one_layer_send_together_to_receivers_that_hear_together() -> None:
    subject = tiny("llama")
    senders = [_at(SiteKind.Z, 0, 1), _at(SiteKind.Z, 0, 3)]
    receivers = [_at(SiteKind.Q, 1, 2), _at(SiteKind.MLP_OUT, 2)]
    found = path_patch(subject, record(subject, CORRUPT), record(subject, CLEAN), senders, [receivers], labels=LABELS)
    held = [_at(SiteKind.ATTN_OUT, layer) for layer in (1, 2)]
    edits = [(one, naive.activation(subject, CLEAN, one)) for one in senders]
    edits += [(one, naive.activation(subject, CORRUPT, one)) for one in held]
    heard = [(one, naive.activation(subject, CORRUPT, one, edits)) for one in receivers]
    expected = naive.decision(naive.logits(subject, CORRUPT, heard), *LABELS)
    assert found.tolist() == pytest.approx([expected], abs=1e-4)
    with pytest.raises(InvalidTrace, match="stand in the attention of one layer, or in its MLP"):
        path_patch(
            subject, record(subject, CORRUPT), record(subject, CLEAN), [*senders, _at(SiteKind.MLP_OUT, 0)],
            [receivers], labels=LABELS,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("sender", "receiver", "words"),
    [
        (_at(SiteKind.RESID_PRE, 1), _at(SiteKind.Q, 2, 0), "resid_pre cannot be a sender"),
        (_at(SiteKind.Z, 1, 0), _at(SiteKind.Q, 1, 0), "q at layer 1, head 0 does not come after z at layer 1"),
        (_at(SiteKind.MLP_OUT, 1), _at(SiteKind.MLP_OUT, 1), "does not come after"),
        (_at(SiteKind.MLP_OUT, 1), _at(SiteKind.NEURONS, 1), "does not come after"),
        (_at(SiteKind.NEURONS, 1), _at(SiteKind.NEURONS, 1), "neurons at layer 1 does not come after"),
        (_at(SiteKind.NEURONS, 1), _at(SiteKind.Q, 1, 0), "does not come after neurons at layer 1"),
        (_at(SiteKind.V, 1, 0), _at(SiteKind.PATTERN, 1, 0), "does not come after"),
        (_at(SiteKind.Q, 1, 0), _at(SiteKind.Z, 1, 1), "does not come after"),
        (_at(SiteKind.K, 1, 1), _at(SiteKind.Z, 1, 1), "does not come after"),
        (_at(SiteKind.V, 2, 1), _at(SiteKind.MLP_OUT, 1), "does not come after"),
    ],
)
def test_paths_that_do_not_exist_are_refused(sender: Exchange, receiver: Exchange, words: str) -> None:
    subject = tiny("llama")
    with pytest.raises(InvalidTrace, match=words):
        path_patch(subject, record(subject, CORRUPT), record(subject, CLEAN), [sender], [[receiver]], labels=LABELS)


def test_an_mlp_beside_its_attention_does_not_hear_it() -> None:
    subject = tiny("gpt_neox-parallel")
    sides = record(subject, CORRUPT), record(subject, CLEAN)
    with pytest.raises(InvalidTrace, match="mlp_out at layer 1 does not come after attn_out at layer 1"):
        path_patch(subject, *sides, [_at(SiteKind.ATTN_OUT, 1)], [[_at(SiteKind.MLP_OUT, 1)]], labels=LABELS)
