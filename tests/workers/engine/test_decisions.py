"""Decision values of many prompts equal one plain forward each."""

import numpy as np
import pytest
import torch

from audit_service.domain.labels import LabelTokens
from audit_service.errors import Cancelled, InvalidBehavior, InvalidPairs, InvalidTrace
from tests.workers.engine.models import CLASSIFIERS, VARIANTS, WHOLE, tiny
from workers.engine.decisions import measure_decisions

LABELS = LabelTokens.single(favorable=(3, 11), unfavorable=(12,))
CLASSES = LabelTokens.single(favorable=(1,), unfavorable=(0, 2))
PROMPTS = [
    (5, 6, 7, 8, 9, 10),
    (5, 6, 7, 8, 44, 10, 13),
    (5, 6, 7, 8, 9, 10),
    (5, 6, 7, 70),
    (20, 21, 22),
    (20, 21),
    (5, 6, 7, 8, 9, 10, 11, 12),
    (90,),
]


@pytest.mark.parametrize("variant", [*VARIANTS, *WHOLE, *CLASSIFIERS, "phi3-longrope"])
def test_shared_beginnings_and_batches_change_no_value(variant: str) -> None:
    subject, labels = tiny(variant), CLASSES if variant in CLASSIFIERS else LABELS
    found = measure_decisions(subject, PROMPTS, labels)
    for i, prompt in enumerate(PROMPTS):
        with torch.no_grad():
            log_p = subject.model(torch.tensor([prompt])).logits.flatten(0, -2)[-1].log_softmax(0)
        favorable, unfavorable = (float(log_p[[token for (token,) in side]].logsumexp(0)) for side in labels)
        expected = (favorable - unfavorable, favorable, unfavorable)
        np.testing.assert_allclose(
            (found.d[i], found.log_p_favorable[i], found.log_p_unfavorable[i]), expected, atol=1e-4, rtol=0
        )


def test_equal_prompts_have_equal_values_and_count_once() -> None:
    seen: list[tuple[int, int, float]] = []
    found = measure_decisions(tiny("llama"), PROMPTS, LABELS, progress=lambda *state: seen.append(state))
    assert found.d[0] == found.d[2]
    assert seen[-1] == (7, 7, 0.0)


def test_cancelling_raises() -> None:
    with pytest.raises(Cancelled):
        measure_decisions(tiny("llama"), PROMPTS, LABELS, should_stop=lambda: True)


@pytest.mark.parametrize(
    ("prompt", "words"), [((), "no tokens"), (tuple([5] * 65), "65 tokens, the model's context is 64"), ((500,), "500")]
)
def test_prompts_that_the_model_cannot_take_are_refused(prompt: tuple[int, ...], words: str) -> None:
    with pytest.raises(InvalidPairs, match=words):
        measure_decisions(tiny("gpt2"), [(5, 6), prompt], LABELS)


def test_labels_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(InvalidBehavior, match="500"):
        measure_decisions(tiny("gpt2"), [(5, 6)], LabelTokens.single(favorable=(500,), unfavorable=(3,)))


def test_logits_that_are_no_numbers_are_refused() -> None:
    subject = tiny("llama")
    with torch.no_grad():
        subject.model.get_submodule("model.norm").weight.fill_(float("nan"))
    with pytest.raises(InvalidTrace, match="not finite"):
        measure_decisions(subject, [(5, 6)], LABELS)
