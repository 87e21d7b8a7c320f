"""First-order estimates equal finite differences, and screening finds what exact patching finds."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import hypergeom

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidTrace
from tests import planted
from tests.workers.engine import naive
from tests.workers.engine.models import VARIANTS, tiny
from workers.engine.answers import unpatched
from workers.engine.attribution import Estimator, attribute
from workers.engine.changes import Neurons
from workers.engine.donors import record
from workers.engine.loading import Subject
from workers.engine.patching import patch
from workers.engine.positions import Exchange
from workers.engine.screening import largest_count, missed_at_most, screen

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


@pytest.mark.parametrize("variant", [*DENSE, "granite-multiplied", "gemma4_text"])
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


INSIDE = (SiteKind.Q, SiteKind.K, SiteKind.V)


def _inside(subject: Subject) -> list[Exchange]:
    kv_heads = subject.anatomy.kv_heads
    heads = {SiteKind.Q: subject.anatomy.heads, SiteKind.K: kv_heads, SiteKind.V: kv_heads}
    places = [(2, 3), (4,)]
    return [
        Exchange(kind, layer, head, at, at)
        for kind in INSIDE
        for layer in range(subject.anatomy.layers)
        for head, at in itertools.product(range(heads[kind]), places)
    ]


@pytest.mark.parametrize("variant", ["llama", "gpt2", "gemma2-sliding-softcap", "qwen3", "granite_swa-sinks"])
def test_inside_attention_what_becomes_of_the_heads_output_is_exact_and_the_rest_a_slope(variant: str) -> None:
    subject = tiny(variant)
    subject.model.double()
    exchanges = _inside(subject)[::7]
    found = attribute(subject, record(subject, CORRUPT), record(subject, CLEAN), exchanges, labels=LABELS)
    repeat = subject.anatomy.heads // subject.anatomy.kv_heads
    everywhere = tuple(range(6))
    for exchange, estimate in zip(exchanges, found, strict=True):
        first, count = (exchange.head, 1) if exchange.kind is SiteKind.Q else (exchange.head * repeat, repeat)
        numbers = range(first, first + count)
        sites = [Exchange(SiteKind.Z, exchange.layer, head, everywhere, everywhere) for head in numbers]
        given = [(exchange, naive.activation(subject, CLEAN, exchange))]
        own, others = ([naive.activation(subject, CORRUPT, site, patches) for site in sites] for patches in ([], given))
        up, down = (
            naive.decision(
                naive.logits(
                    subject,
                    CORRUPT,
                    [(site, a + step * (b - a)) for site, a, b in zip(sites, own, others, strict=True)],
                ),
                *LABELS,
            )
            for step in (1e-3, -1e-3)
        )
        assert estimate == pytest.approx((up - down) / 2e-3, abs=2e-3, rel=2e-3)


@pytest.mark.parametrize("kind", [SiteKind.Q, SiteKind.K])
def test_a_saturated_head_is_found_although_its_softmax_has_no_slope(kind: SiteKind) -> None:
    """The induction head attends with weight one; only the fix sees that other keys or queries would end that."""
    subject, everywhere = planted.induction(), tuple(range(6))
    labels = LabelTokens.single(favorable=(13,), unfavorable=(2,))
    repeated, other = (5, 8, 13, 2, 6, 8), (5, 7, 13, 2, 6, 8) if kind is SiteKind.K else (5, 8, 13, 2, 6, 7)
    recipient, donor = record(subject, repeated), record(subject, other)
    exchange = Exchange(kind, 1, 2, everywhere, everywhere)
    estimate = attribute(subject, recipient, donor, [exchange], labels=labels)
    exact = patch(subject, recipient, donor, [exchange], labels=labels) - float(unpatched(subject, [recipient], labels))
    assert abs(exact[0]) > 5
    assert estimate[0] == pytest.approx(exact[0], abs=1e-3)


def test_grad_drop_is_the_mean_slope_with_one_layer_after_another_held_still() -> None:
    subject = tiny("llama")
    subject.model.double()
    exchanges = _grid(subject)[::9]
    found = attribute(
        subject,
        record(subject, CORRUPT),
        record(subject, CLEAN),
        exchanges,
        labels=LABELS,
        estimator=Estimator.GRAD_DROP,
    )
    everywhere = tuple(range(6))
    held = {
        layer: [
            (site, naive.activation(subject, CORRUPT, site))
            for site in (Exchange(kind, layer, None, everywhere, everywhere) for kind in KINDS[2:])
        ]
        for layer in range(3)
    }
    for exchange, estimate in zip(exchanges, found, strict=True):
        own, others = (naive.activation(subject, ids, exchange) for ids in (CORRUPT, CLEAN))
        slopes = []
        for layer in set(range(3)) - {exchange.layer}:
            up, down = (
                naive.decision(
                    naive.logits(subject, CORRUPT, [(exchange, own + step * (others - own)), *held[layer]]), *LABELS
                )
                for step in (1e-3, -1e-3)
            )
            slopes.append(abs(up - down) / 2e-3)
        assert estimate == pytest.approx(np.mean(slopes), abs=2e-3, rel=2e-3)


@pytest.mark.parametrize("variant", ["llama", "gpt2", "gemma2-sliding-softcap"])
def test_integrated_estimates_of_a_whole_layer_add_up_to_its_exact_effect(variant: str) -> None:
    subject = tiny(variant)
    recipient, donor, everywhere = record(subject, CORRUPT), record(subject, CLEAN), tuple(range(6))
    own = float(unpatched(subject, [recipient], LABELS))
    for kind, layer in (
        (SiteKind.RESID_PRE, 1),
        (SiteKind.RESID_POST, 2),
        (SiteKind.ATTN_OUT, 0),
        (SiteKind.MLP_OUT, 1),
    ):
        whole = patch(subject, recipient, donor, [Exchange(kind, layer, None, everywhere, everywhere)], labels=LABELS)
        places = [Exchange(kind, layer, None, (at,), (at,)) for at in everywhere]
        found = attribute(subject, recipient, donor, places, labels=LABELS, estimator=Estimator.INTEGRATED)
        assert found.sum() == pytest.approx(whole[0] - own, rel=0.02, abs=0.01)


@pytest.mark.parametrize("layer", [1, 2])
def test_experts_and_the_mlp_beside_them_are_estimated_as_the_sum_that_they_add(layer: int) -> None:
    subject = tiny("granitemoehybrid-experts")
    recipient, donor, everywhere = record(subject, CORRUPT), record(subject, CLEAN), tuple(range(6))
    site = Exchange(SiteKind.MLP_OUT, layer, None, everywhere, everywhere)
    effect = patch(subject, recipient, donor, [site], labels=LABELS) - float(unpatched(subject, [recipient], LABELS))
    found = attribute(subject, recipient, donor, [site], labels=LABELS, estimator=Estimator.INTEGRATED)
    np.testing.assert_allclose(found, effect, rtol=0.02, atol=0.01)


def test_what_no_estimate_is_made_for_is_refused() -> None:
    subject = tiny("llama")
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    part = Exchange(SiteKind.MLP_OUT, 0, None, (3,), (3,), part=Neurons((1, 2)))
    with pytest.raises(InvalidTrace, match="no estimate is made"):
        attribute(subject, recipient, donor, [part], labels=LABELS)
    longer = record(subject, (*CLEAN, 7))
    site = Exchange(SiteKind.MLP_OUT, 0, None, (5,), (6,))
    with pytest.raises(InvalidTrace, match="equal length"):
        attribute(subject, recipient, longer, [site], labels=LABELS, estimator=Estimator.INTEGRATED)
    assert torch.is_grad_enabled()


def test_where_nothing_is_left_to_screen_nothing_was_missed() -> None:
    assert missed_at_most(np.zeros(0), total=0, threshold=0.05, alpha=0.05) == 0


def test_effects_that_are_no_numbers_do_not_count_as_small() -> None:
    with pytest.raises(InvalidTrace, match="not finite"):
        missed_at_most(np.array([0.1, np.nan]), total=40, threshold=0.05, alpha=0.05)


def test_inside_gated_attention_no_estimate_is_made() -> None:
    subject = tiny("bitnet")
    query = Exchange(SiteKind.Q, 1, 2, (5,), (5,))
    with pytest.raises(InvalidTrace, match="bitnet gates or norms what its heads read"):
        attribute(subject, record(subject, CORRUPT), record(subject, CLEAN), [query], labels=LABELS)


def test_an_mlp_that_gives_its_routes_beside_its_output_is_estimated_by_the_output() -> None:
    subject, last = tiny("gpt_oss-sinks"), Exchange(SiteKind.MLP_OUT, 2, None, (5,), (5,))
    [estimate] = attribute(subject, record(subject, CORRUPT), record(subject, CLEAN), [last], labels=LABELS)
    own, others = (naive.activation(subject, ids, last) for ids in (CORRUPT, CLEAN))
    up, down = (
        naive.decision(naive.logits(subject, CORRUPT, [(last, own + step * (others - own))]), *LABELS)
        for step in (0.02, -0.02)
    )
    assert abs(estimate) > 1e-2
    assert estimate == pytest.approx((up - down) / 0.04, abs=2e-3, rel=2e-2)
