"""Parts of activations, and what they become, equal plain hooks that change rows in place."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidTrace
from tests.workers.engine import naive
from tests.workers.engine.models import tiny
from workers.engine.changes import Add, Features, Neurons, Part, Scale, Subspace, Value
from workers.engine.donors import record
from workers.engine.loading import Subject
from workers.engine.patching import patch, patch_together
from workers.engine.positions import Exchange

CLEAN = (5, 17, 33, 8, 21, 60, 7, 90, 14)
CORRUPT = (5, 17, 44, 9, 21, 60, 7, 90, 14)
LABELS = LabelTokens.single(favorable=(3, 11), unfavorable=(12,))
WIDTH, FEATURES = 32, 20
AT, LAST = (2, 3, 8), (8,)
Become = Callable[[Tensor, Tensor], Tensor]
"""From own and donor's rows to new rows, in plain arithmetic."""


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sae") / "sae.safetensors"
    shapes = {"W_enc": (WIDTH, FEATURES), "b_enc": (FEATURES,), "W_dec": (FEATURES, WIDTH), "b_dec": (WIDTH,)}
    tensors = {name: _random(*shape, seed=i) / 3 for i, (name, shape) in enumerate(shapes.items())}
    save_file({**tensors, "threshold": _random(FEATURES, seed=9).abs() / 10}, path)
    return path


def _features(path: Path) -> tuple[Features, Become]:
    """Chosen features, and the same by reconstructing all of them and keeping the error."""
    chosen = [1, 4, 7, 8, 15]
    raw = load_file(path)

    def encode(rows: Tensor) -> Tensor:
        found = (rows - raw["b_dec"]) @ raw["W_enc"] + raw["b_enc"]
        return found * (found > raw["threshold"]) * (found > 0)

    def become(own: Tensor, donors: Tensor) -> Tensor:
        features, others = encode(own), encode(donors)
        error = own - (features @ raw["W_dec"] + raw["b_dec"])
        features[:, chosen] = others[:, chosen]
        return features @ raw["W_dec"] + raw["b_dec"] + error

    return Features.load(path, chosen, centred=True), become


def _unused(own: Tensor, donors: Tensor) -> Tensor:
    raise AssertionError


def _cases(path: Path, width: int) -> list[tuple[Part | None, Value | None, Become]]:
    basis = torch.linalg.qr(_random(width, 3, seed=5)).Q.T.contiguous()
    vector, small = _random(width, seed=6), _random(3, seed=7)
    group = [0, 3, 7]
    mask = torch.zeros(width)
    mask[group] = 1
    projector = basis.T @ basis
    features, become = _features(path) if width == WIDTH else (None, _unused)
    return [
        (Subspace(basis), None, lambda own, donors: own + (donors - own) @ projector),
        (Subspace(basis), Scale(0), lambda own, _: own - own @ projector),
        (Subspace(basis), Add(small), lambda own, _: own + small @ basis),
        (Neurons(tuple(group)), None, lambda own, donors: own * (1 - mask) + donors * mask),
        (Neurons(tuple(group)), Scale(-2), lambda own, _: own * (1 - 3 * mask)),
        (None, Scale(0.5), lambda own, _: own * 0.5),
        (None, Add(vector), lambda own, _: own + vector),
        *([(features, None, become)] if features else []),
    ]


def _naive(subject: Subject, changes: list[tuple[Exchange, Become]]) -> float:
    functions = []
    for exchange, become in changes:
        if exchange.kind is SiteKind.RESID_MID:
            parts = [exchange._replace(kind=kind) for kind in (SiteKind.RESID_PRE, SiteKind.ATTN_OUT)]
            donors = sum(naive.activation(subject, CLEAN, part) for part in parts)
        else:
            donors = naive.activation(subject, CLEAN, exchange)
        functions.append((exchange, lambda own, donors=donors, become=become: become(own, donors)))
    return naive.decision(naive.changed_logits(subject, CORRUPT, functions), *LABELS)


PLACES = [
    (SiteKind.RESID_PRE, 1, None, AT, WIDTH),
    (SiteKind.RESID_MID, 1, None, AT, WIDTH),
    (SiteKind.RESID_MID, 2, None, LAST, WIDTH),
    (SiteKind.RESID_POST, 0, None, AT, WIDTH),
    (SiteKind.ATTN_OUT, 2, None, LAST, WIDTH),
    (SiteKind.MLP_OUT, 0, None, AT, WIDTH),
    (SiteKind.NEURONS, 1, None, AT, 48),
    (SiteKind.NEURONS, 2, None, LAST, 48),
    (SiteKind.Z, 1, 2, AT, 8),
    (SiteKind.V, 1, 1, AT, 8),
]


@pytest.mark.parametrize("variant", ["llama", "gemma2-sliding-softcap", "gpt_neox-parallel"])
def test_every_part_and_value_at_every_site_equals_plain_hooks(variant: str, autoencoder: Path) -> None:
    subject = tiny(variant)
    cells = [
        (Exchange(kind, layer, head, at, at, part, value), become)
        for kind, layer, head, at, width in PLACES
        if not (kind is SiteKind.RESID_MID and subject.anatomy.parallel)
        for part, value, become in _cases(autoencoder, width)
    ]
    recipient, donor = (record(subject, ids, neurons=True) for ids in (CORRUPT, CLEAN))
    found = patch(subject, recipient, donor, [exchange for exchange, _ in cells], labels=LABELS)
    expected = [_naive(subject, [cell]) for cell in cells]
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert np.ptp(expected) > 1e-2


def test_queries_and_keys_are_changed_as_attention_multiplies_them() -> None:
    subject = tiny("gpt2")  # without a rotary encoding, so that a hook on the projection sees the same
    cells = [
        (Exchange(kind, layer, 2, AT, AT, part, value), become)
        for kind, layer in ((SiteKind.Q, 1), (SiteKind.K, 2), (SiteKind.K, 0))
        for part, value, become in _cases(Path(), 8)
    ]
    found = patch(subject, record(subject, CORRUPT), record(subject, CLEAN), [e for e, _ in cells], labels=LABELS)
    np.testing.assert_allclose(found, [_naive(subject, [cell]) for cell in cells], atol=1e-4, rtol=0)


def test_changes_at_several_sites_act_on_what_the_earlier_ones_left(autoencoder: Path) -> None:
    subject = tiny("llama")
    features, become = _features(autoencoder)
    vector = _random(WIDTH, seed=3)
    early, late = (1, 8), (4, 8)
    chain: list[tuple[Exchange, Become]] = [
        (Exchange(SiteKind.RESID_PRE, 0, None, early, early, None, Add(vector)), lambda own, _: own + vector),
        (Exchange(SiteKind.RESID_MID, 1, None, late, late), lambda _, donors: donors),
        (Exchange(SiteKind.MLP_OUT, 1, None, late, late, None, Scale(3)), lambda own, _: own * 3),
        (Exchange(SiteKind.RESID_POST, 1, None, late, late, features), become),
        (Exchange(SiteKind.Z, 2, 0, LAST, LAST, None, Scale(0)), lambda own, _: own * 0),
    ]
    sets = [chain, chain[1:3], chain[:2], chain[2:]]
    found = patch_together(
        subject,
        record(subject, CORRUPT),
        record(subject, CLEAN),
        [[exchange for exchange, _ in each] for each in sets],
        labels=LABELS,
    )
    np.testing.assert_allclose(found, [_naive(subject, each) for each in sets], atol=1e-4, rtol=0)


def test_steering_acts_where_both_prompts_are_still_equal() -> None:
    subject = tiny("llama")
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    vector = _random(WIDTH)
    steered = Exchange(SiteKind.RESID_PRE, 1, None, (0,), (0,), None, Add(vector))
    found = patch(subject, recipient, donor, [steered], labels=LABELS)
    np.testing.assert_allclose(found, [_naive(subject, [(steered, lambda own, _: own + vector)])], atol=1e-4)
    assert found[0] != patch(subject, recipient, donor, [steered._replace(value=None)], labels=LABELS)[0]


def test_a_span_of_any_vectors_is_the_span_of_an_orthonormal_basis() -> None:
    vectors = _random(3, WIDTH)
    rows, found = _random(5, WIDTH, seed=1), Subspace.spanned_by(vectors)
    projector = vectors.T @ torch.linalg.pinv(vectors.T)
    torch.testing.assert_close(found.write(torch.zeros(5, WIDTH), found.read(rows)), rows @ projector.T)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda _: Scale(1), "changes nothing"),
        (lambda _: Add(torch.zeros(4)), "changes nothing"),
        (lambda _: Subspace(torch.ones(2, 4)), "not orthonormal"),
        (lambda _: Subspace.spanned_by(torch.ones(2, 4)), "depend linearly"),
        (lambda _: Neurons(()), "no group of neurons"),
        (lambda path: Features.load(path, [20], centred=False), "20 features"),
        (lambda path: Features.load(path.with_name("none.safetensors"), [0], centred=False), "cannot be read"),
    ],
)
def test_changes_that_cannot_be_are_refused(make: Callable[[Path], object], words: str, autoencoder: Path) -> None:
    with pytest.raises(InvalidTrace, match=words):
        make(autoencoder)


@pytest.mark.parametrize(
    ("exchange", "words"),
    [
        (Exchange(SiteKind.RESID_PRE, 0, None, LAST, LAST, Neurons((32,))), "no neuron 32"),
        (Exchange(SiteKind.Z, 0, 1, LAST, LAST, Subspace(torch.eye(32)[:2])), "32 entries, the activation has 8"),
        (Exchange(SiteKind.Z, 0, 1, LAST, LAST, None, Add(torch.ones(9))), "9 entries, the activation has 8"),
        (Exchange(SiteKind.PATTERN, 0, 1, LAST, LAST, None, Scale(0)), "exchanged as a whole"),
    ],
)
def test_changes_that_do_not_fit_the_site_are_refused(exchange: Exchange, words: str) -> None:
    subject = tiny("llama")
    with pytest.raises(InvalidTrace, match=words):
        patch(subject, record(subject, CORRUPT), record(subject, CLEAN), [exchange], labels=LABELS)
