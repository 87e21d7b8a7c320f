"""Circuits: runs with exchanged edges equal plain hooks, scores equal slopes, and planted circuits are found."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from audit_service.domain.labels import LabelTokens
from audit_service.errors import InvalidTrace
from tests import planted
from tests.planted import CONJOINT, ONE_HEAD, REDUNDANT, Rule
from tests.workers.engine import edges_by_hand, naive
from tests.workers.engine.models import tiny
from workers.engine.circuits import (
    curve,
    edge_scores,
    faithfulness,
    incompleteness,
    largest,
    minimality,
    prune,
    verify,
)
from workers.engine.loading import Subject
from workers.engine.wiring import Contrast, Edge, Graph

CLEAN, CORRUPT = (5, 17, 33, 8, 21, 60), (5, 17, 44, 9, 21, 60)
LABELS = LabelTokens.single(favorable=(3, 11), unfavorable=(12,))
VARIANTS = [
    "gpt2",
    "llama",
    "qwen3",
    "phi3",
    "gpt_neox-parallel",
    "opt",
    "mistral-sliding",
    "mixtral",
    "granite-multiplied",
    "granite_swa-sinks",
    "granitemoeshared",
    "youtu",
]


def _contrast(subject: Subject) -> Contrast:
    return Contrast(subject, CLEAN, CORRUPT, LABELS)


def _drawn(graph: Graph, share: float, seed: int) -> NDArray[np.bool_]:
    return graph.edges & (np.random.default_rng(seed).random(graph.edges.shape) < share)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_decision_of_any_circuit_equals_plain_hooks(variant: str) -> None:
    subject = tiny(variant)
    contrast = _contrast(subject)
    circuits = np.stack([_drawn(contrast.graph, share, seed) for seed, share in enumerate((0.5, 0.9))])
    corrupt = edges_by_hand.outputs(subject, CORRUPT)
    expected = [
        edges_by_hand.decision(
            subject, CLEAN, corrupt, {tuple(edge): 1.0 for edge in contrast.graph.named(circuit)}, LABELS
        )
        for circuit in circuits
    ]
    np.testing.assert_allclose(contrast.decisions(circuits), expected, atol=1e-4)
    assert min(abs(value - contrast.d_clean) for value in expected) > 1e-2


@pytest.mark.parametrize("variant", ["gpt2", "llama", "gpt_neox-parallel"])
def test_the_whole_model_and_the_empty_circuit_are_the_two_prompts(variant: str) -> None:
    subject = tiny(variant)
    contrast = _contrast(subject)
    everything = contrast.graph.edges
    own = [naive.decision(naive.logits(subject, ids), *LABELS) for ids in (CLEAN, CORRUPT)]
    np.testing.assert_allclose(contrast.decisions(np.stack([everything, everything & False])), own, atol=1e-5)


@pytest.mark.parametrize("variant", ["gpt2", "llama", "gpt_neox-parallel"])
def test_a_score_is_the_slope_of_taking_a_little_of_an_edge_away(variant: str) -> None:
    subject = tiny(variant)
    subject.model.double()
    contrast = _contrast(subject)
    scores = edge_scores([contrast])
    corrupt = edges_by_hand.outputs(subject, CORRUPT)
    whole = {tuple(edge): 1.0 for edge in contrast.graph.named(contrast.graph.edges)}
    readers, senders = np.nonzero(contrast.graph.edges)
    for number in range(0, len(readers), 23):
        reader, sender = readers[number], senders[number]
        name = contrast.graph.senders[sender], contrast.graph.readers[reader]
        less, more = (
            edges_by_hand.decision(subject, CLEAN, corrupt, {**whole, name: 1 + step}, LABELS) for step in (-1e-3, 1e-3)
        )
        assert scores[reader, sender] == pytest.approx((less - more) / 2e-3, abs=2e-3, rel=2e-3)


def test_integrated_scores_of_the_embeddings_add_up_to_the_whole_difference() -> None:
    contrast = _contrast(tiny("llama"))
    total = edge_scores([contrast], steps=60)[:, 0].sum()
    assert total == pytest.approx(contrast.d_corrupt - contrast.d_clean, rel=0.05)
    assert edge_scores([contrast])[:, 0].sum() != pytest.approx(contrast.d_corrupt - contrast.d_clean, rel=0.05)


TRUTH = {
    "one head": (ONE_HEAD, {("input", "a1.h2.v"), ("a1.h2", "m2"), ("m2", "answer")}),
    "both": (
        CONJOINT,
        {("input", "a0.h1.v"), ("input", "a1.h2.v"), ("a0.h1", "m2"), ("a1.h2", "m2"), ("m2", "answer")},
    ),
}


def _planted(rule: Rule) -> Contrast:
    labels = LabelTokens.single(favorable=(3,), unfavorable=(4,))
    subject = planted.carrier(rule, {10: 1.0, 11: 0.0}, labels, vocabulary=24, gain=1.5)
    return Contrast(subject, (5, 17, 10, 8, 21, 9), (5, 17, 11, 8, 21, 9), labels)


@pytest.mark.parametrize("name", TRUTH)
def test_pruning_leaves_the_planted_circuit_and_nothing_else(name: str) -> None:
    rule, truth = TRUTH[name]
    contrast = _planted(rule)
    found = prune([contrast], contrast.graph.edges, threshold=0.01)
    assert set(contrast.graph.named(found)) == {Edge(*edge) for edge in truth}
    np.testing.assert_allclose(faithfulness([contrast], found[None]), 1, atol=1e-4)
    np.testing.assert_allclose(minimality([contrast], found), 1, atol=1e-4)
    assert incompleteness([contrast], found).max() < 1e-4


def test_pruning_keeps_one_of_two_ways_that_each_suffice_and_completeness_tells() -> None:
    contrast = _planted(REDUNDANT)
    found = prune([contrast], contrast.graph.edges, threshold=0.01)
    assert found.sum() == 3
    np.testing.assert_allclose(faithfulness([contrast], found[None]), 1, atol=1e-4)
    assert incompleteness([contrast], found).max() == pytest.approx(1, abs=1e-4)


def test_pruning_in_batches_is_pruning_one_at_a_time() -> None:
    contrast = _contrast(tiny("llama"))
    scores = edge_scores([contrast])
    circuit, threshold = largest(scores, contrast.graph.edges, 60), 0.02
    found = prune([contrast], circuit, threshold=threshold, order=scores)
    expected = circuit.copy()
    now = contrast.decisions(expected[None])[0]
    for reader in reversed(range(len(circuit))):
        for sender in sorted(np.flatnonzero(circuit[reader]), key=lambda s: abs(scores[reader, s])):
            tried = expected.copy()
            tried[reader, sender] = False
            value = contrast.decisions(tried[None])[0]
            if abs(value - now) < threshold:
                expected, now = tried, value
    assert 0 < expected.sum() < circuit.sum()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("steps", [1, 5])
def test_scores_rank_the_planted_edges_first(steps: int) -> None:
    rule, truth = TRUTH["one head"]
    contrast = _planted(rule)
    scores = edge_scores([contrast], steps=steps)
    top = largest(scores, contrast.graph.edges, len(truth))
    assert set(contrast.graph.named(top)) == {Edge(*edge) for edge in truth}


def test_the_curve_goes_from_nothing_to_the_whole_model() -> None:
    contrasts = [_contrast(tiny("llama"))]
    scores = edge_scores(contrasts, steps=5)
    found = curve(contrasts, scores)
    assert found.faithfulness[-1] == pytest.approx(1, abs=1e-4)
    assert found.edges[-1] == contrasts[0].graph.edges.sum()
    shares = np.array([0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
    f = np.array([0, *found.faithfulness])
    widths = np.diff(shares)
    assert found.cpr == pytest.approx((widths * (f[1:] + f[:-1]) / 2).sum())
    assert found.cmd == pytest.approx((widths * (abs(1 - f[1:]) + abs(1 - f[:-1])) / 2).sum())


def test_verified_effects_are_those_of_single_edges_and_the_bound_holds() -> None:
    contrast = _contrast(tiny("llama"))
    scores, edges = edge_scores([contrast]), contrast.graph.edges
    found = verify([contrast], scores, top=20, sample=40, threshold=0.05, seed=1)
    everything = verify([contrast], scores, top=20, sample=10_000, threshold=0.05, seed=1)
    exact = dict(zip(everything.edges.tolist(), everything.effects.tolist(), strict=True))
    assert (everything.missed_at_most, len(exact)) == (0, int(edges.sum()))
    assert found.effects.tolist() == pytest.approx([exact[number] for number in found.edges.tolist()], abs=1e-4)
    missed = sum(abs(effect) >= 0.05 for number, effect in exact.items() if number not in set(found.edges.tolist()))
    assert missed <= found.missed_at_most < len(exact)
    assert set(found.edges[:20]) == set(np.flatnonzero(largest(scores, edges, 20)))


def test_runs_leave_no_hook_and_no_gradient_behind() -> None:
    subject = tiny("gpt2")
    edge_scores([_contrast(subject)], steps=2)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in subject.model.modules())
    assert not any(p.requires_grad or p.grad is not None for p in subject.model.parameters())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("variant", "corrupt", "words"),
    [
        ("gemma2-sliding-softcap", CORRUPT, "norms them together"),
        ("llama", CORRUPT[:-1], "of equal length"),
        ("llama", CLEAN, "that are the same"),
    ],
)
def test_what_has_no_edges_is_refused(variant: str, corrupt: tuple[int, ...], words: str) -> None:
    with pytest.raises(InvalidTrace, match=words):
        Contrast(tiny(variant), CLEAN, corrupt, LABELS)


def test_equal_answers_have_no_faithfulness() -> None:
    contrast = _planted(ONE_HEAD)
    contrast.d_clean = contrast.d_corrupt
    with pytest.raises(InvalidTrace, match="undefined"):
        faithfulness([contrast], contrast.graph.edges[None])
