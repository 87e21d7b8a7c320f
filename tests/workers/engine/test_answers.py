"""Labels of several tokens: whole-label log-probabilities, as one plain forward over prompt and label gives them."""

import itertools

import numpy as np
import pytest
import torch

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import HEAD_KINDS, SiteKind
from audit_service.errors import InvalidModel, InvalidPairs, InvalidTrace
from tests.workers.engine import naive
from tests.workers.engine.models import VARIANTS, WHOLE, tiny
from workers.engine.answers import answered_entries, unpatched
from workers.engine.attribution import attribute
from workers.engine.corruptions import noised
from workers.engine.decisions import measure_decisions
from workers.engine.donors import record
from workers.engine.entry import enter
from workers.engine.heads import INSIDE
from workers.engine.neurons import neurons_reader
from workers.engine.patching import patch
from workers.engine.placing import heads_of
from workers.engine.positions import Exchange
from workers.engine.selfcheck import run_controls
from workers.engine.tokens import EncodedPair, EncodedPrompt

CLEAN = (5, 17, 33, 8, 21, 60, 7, 90, 14)
CORRUPT = (5, 17, 44, 9, 21, 60, 7, 90, 14)
LABELS = LabelTokens(favorable=((3, 4, 8, 9), (3, 7), (11,)), unfavorable=((12, 4), (13, 4, 60)))
"""Shared beginnings, different lengths, and one label of one token."""
EVERYWHERE = tuple(range(len(CLEAN)))
TRIED = [*VARIANTS, *WHOLE, "qwen3_5_text", "llama4_text", "gemma3-images"]


def _cells(variant: str) -> list[Exchange]:
    """Every kind in every layer, at positions drawn anew for each."""
    anatomy, rng = tiny(variant).anatomy, np.random.default_rng(0)
    cells = []
    for kind, layer in itertools.product(SiteKind, range(anatomy.layers)):
        if (kind is SiteKind.RESID_MID and anatomy.parallel) or (kind in INSIDE and not anatomy.flow.packs):
            continue
        if kind in HEAD_KINDS and not heads_of(anatomy, kind, layer):
            continue
        head = int(rng.integers(heads_of(anatomy, kind, layer))) if kind in HEAD_KINDS else None
        if kind is SiteKind.NEURONS and neurons_reader(anatomy.blocks[layer]) is None:
            continue
        places = ((int(rng.integers(2, 9)),), (8,), EVERYWHERE)
        cells.extend(Exchange(kind, layer, head, at, at) for at in places)
    return cells


@pytest.mark.parametrize("variant", TRIED)
def test_patched_runs_answer_with_whole_labels_in_every_family(variant: str) -> None:
    subject, exchanges = tiny(variant), _cells(variant)
    sides = (record(subject, ids, neurons=True) for ids in (CORRUPT, CLEAN))
    found = patch(subject, *sides, exchanges, labels=LABELS)
    expected = [naive.patched_decision(subject, CORRUPT, CLEAN, exchange, LABELS) for exchange in exchanges]
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert np.ptp(expected) > 0.01


@pytest.mark.parametrize("variant", TRIED)
def test_prompts_answer_with_whole_labels_in_every_family(variant: str) -> None:
    subject = tiny(variant)
    prompts = [CLEAN, CORRUPT, CLEAN[:5], (90, 2), (*CLEAN[:4], 1, 2, 3)]
    found = measure_decisions(subject, prompts, LABELS)
    for number, prompt in enumerate(prompts):
        sides = [[naive.label_log_p(subject, prompt, label) for label in side] for side in LABELS]
        favorable, unfavorable = (float(torch.stack(side).logsumexp(0)) for side in sides)
        mine = (found.d[number], found.log_p_favorable[number], found.log_p_unfavorable[number])
        np.testing.assert_allclose(mine, (favorable - unfavorable, favorable, unfavorable), atol=1e-4, rtol=0)


def test_a_noised_prompt_answers_with_whole_labels() -> None:
    subject = tiny("llama")
    recording = noised(subject, CLEAN, (2, 3), seed=1)

    def put_noise(_: object, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        arguments[0][0, : len(CLEAN)] = recording.entry.hidden
        return arguments

    handle = subject.anatomy.blocks[0].layer.register_forward_pre_hook(put_noise)
    expected = naive.whole_decision(subject, CLEAN, LABELS)
    handle.remove()
    assert float(unpatched(subject, [recording], LABELS)) == pytest.approx(expected, abs=1e-4)


def test_labels_of_one_token_leave_the_prompt_as_it_is() -> None:
    subject = tiny("llama")
    entry = enter(subject, CLEAN)
    assert answered_entries(subject, entry, LabelTokens.single(favorable=(3,), unfavorable=(4,))) == [(entry, (0,))]


@pytest.mark.parametrize("variant", ["llama", "mistral-sliding"])
@pytest.mark.parametrize("corrupt", [CORRUPT, CORRUPT[1:]], ids=["equal", "unequal"])
def test_the_controls_pass_with_whole_labels(variant: str, corrupt: tuple[int, ...]) -> None:
    sides = (EncodedPrompt(ids, {"all": tuple(range(len(ids)))}) for ids in (CLEAN, corrupt))
    assert all(control.measured <= 1e-4 for control in run_controls(tiny(variant), EncodedPair("p", *sides), LABELS))


def test_a_label_that_leaves_the_context_is_refused() -> None:
    with pytest.raises(InvalidPairs, match="has 62 tokens and a label 4, the model's context is 64"):
        measure_decisions(tiny("gpt2"), [tuple(range(3, 65))], LABELS)


def test_position_encodings_that_look_at_the_whole_length_are_refused() -> None:
    subject = tiny("llama")
    entry = enter(subject, CLEAN)
    shifted = [call.by_position["position_embeddings"][0].add_(0.1) for call in entry.calls[:1]]
    assert len(shifted) == 1
    with pytest.raises(InvalidModel, match="otherwise when a label stands behind it"):
        answered_entries(subject, entry, LABELS)


def test_whole_labels_are_not_estimated() -> None:
    subject = tiny("llama")
    with pytest.raises(InvalidTrace, match="labels of one token"):
        attribute(subject, record(subject, CLEAN), record(subject, CORRUPT), [], labels=LABELS)
