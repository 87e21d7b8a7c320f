"""First-order estimates equal finite differences, and screening finds what exact patching finds."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import hypergeom

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidTrace
from tests.workers.engine import naive
from tests.workers.engine.models import VARIANTS, tiny
from workers.engine.attribution import attribute, largest_count, screen
from workers.engine.donors import record
from workers.engine.loading import Subject
from workers.engine.patching import patch
from workers.engine.positions import Exchange

CLEAN, CORRUPT = (5, 17, 33, 8, 21, 60), (5, 17, 44, 9, 21, 60)
LABELS = LabelTokens.single(favorable=(3, 11), unfavorable=(12,))
DENSE = [variant for variant in VARIANTS if variant not in {"mixtral", "qwen3-moe"}]
"""Experts do not compute in float64, which a finite difference needs."""
KINDS = (SiteKind.RESID_PRE, SiteKind.RESID_POST, SiteKind.ATTN_OUT, SiteKind.MLP_OUT)


def _grid(subject: Subject) -> list[Exchange]:
    layers, positions = range(subject.anatomy.layers), range(2, 6)
    plain = [Exchange(k, layer, None, (t,), (t,)) for k, layer, t in itertools.product(KINDS, layers, positions)]
    heads = itertools.product(layers, range(subject.anatomy.heads))
    return plain + [Exchange(SiteKind.Z, layer, head, tuple(range(6)), tuple(range(6))) for layer, head in heads]


@pytest.mark.parametrize("variant", DENSE)
def test_an_estimate_is_the_slope_of_a_small_step_towards_the_donor(variant: str) -> None:
    subject = tiny(variant)
    subject.model.double()
    exchanges = _grid(subject)[::5]
    found = attribute(subject, record(subject, CORRUPT), record(subject, CLEAN), exchanges, labels=LABELS)
    for exchange, estimate in zip(exchanges, found, strict=True):
        own, others = (naive.activation(subject, ids, exchange) for ids in (CORRUPT, CLEAN))
        up, down = (
            naive.decision(naive.logits(subject, CORRUPT, [(exchange, own + step * (others - own))]), *LABELS)
            for step in (1e-3, -1e-3)
        )
        assert estimate == pytest.approx((up - down) / 2e-3, abs=2e-3, rel=2e-3)


def test_estimates_leave_no_hook_and_no_gradient_behind() -> None:
    subject = tiny("llama")
    attribute(subject, record(subject, CORRUPT), record(subject, CLEAN), _grid(subject), labels=LABELS)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in subject.model.modules())
    assert not any(p.requires_grad or p.grad is not None for p in subject.model.parameters())


def test_screening_measures_the_top_and_a_sample_exactly() -> None:
    subject = tiny("llama")
    recipient, donor, exchanges = record(subject, CORRUPT), record(subject, CLEAN), _grid(subject)
    found = screen(subject, recipient, donor, exchanges, labels=LABELS, top=10, sample=5, threshold=0.05, seed=3)
    exact = patch(subject, recipient, donor, exchanges, labels=LABELS) - naive.decision(
        naive.logits(subject, CORRUPT), *LABELS
    )
    assert len(set(found.verified.tolist())) == len(found.verified) == 15
    assert set(found.verified[:10]) == set(np.argsort(-np.abs(found.estimated))[:10])
    np.testing.assert_allclose(found.exact, exact[found.verified], atol=1e-4)
    unpatched = np.delete(exact, found.verified)
    assert (np.abs(unpatched) >= 0.05).sum() <= found.missed_at_most


def test_patching_everything_misses_nothing() -> None:
    subject = tiny("gpt2")
    exchanges = _grid(subject)
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    found = screen(
        subject, recipient, donor, exchanges, labels=LABELS, top=5, sample=len(exchanges), threshold=0.0, seed=0
    )
    assert (found.missed_at_most, len(found.exact)) == (0, len(exchanges))


def test_the_bound_is_the_largest_count_that_is_not_excluded() -> None:
    for total, drawn, seen in ((50, 10, 0), (50, 10, 3), (200, 40, 1)):
        bound = largest_count(total=total, drawn=drawn, seen=seen, alpha=0.05)
        assert hypergeom.cdf(seen, total, bound, drawn) > 0.05
        assert hypergeom.cdf(seen, total, bound + 1, drawn) <= 0.05


def test_insides_of_attention_are_not_screened() -> None:
    subject = tiny("llama")
    with pytest.raises(InvalidTrace, match="first-order"):
        attribute(
            subject,
            record(subject, CORRUPT),
            record(subject, CLEAN),
            [Exchange(SiteKind.Q, 0, 0, (3,), (3,))],
            labels=LABELS,
        )
    assert torch.is_grad_enabled()
