"""The controls pass on a sound model, and fail where something is wrong."""

import pytest
import torch

from audit_service.domain.labels import LabelTokens
from audit_service.domain.trace import Control
from audit_service.errors import ControlFailed
from tests.workers.engine.models import CLASSIFIERS, HYBRIDS, VARIANTS, WHOLE, tiny
from workers.engine.determinism import measured
from workers.engine.loading import Subject
from workers.engine.selfcheck import prove, require, run_controls
from workers.engine.tokens import EncodedPair, EncodedPrompt

CLASSES = LabelTokens.single(favorable=(1,), unfavorable=(0, 2))
LABELS = LabelTokens.single(favorable=(3,), unfavorable=(12,))


def _prompt(*ids: int) -> EncodedPrompt:
    return EncodedPrompt(ids, {"all": tuple(range(len(ids)))})


EQUAL = EncodedPair("p", _prompt(5, 6, 33, 8, 21), _prompt(5, 6, 44, 8, 21))
UNEQUAL = EncodedPair("p", _prompt(5, 6, 33, 8, 21), _prompt(5, 6, 44, 45, 8, 21))


@pytest.mark.parametrize("variant", [*VARIANTS, *WHOLE, *CLASSIFIERS])
@pytest.mark.parametrize("encoded", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
def test_all_controls_pass_in_every_family(variant: str, encoded: EncodedPair) -> None:
    controls = run_controls(tiny(variant), encoded, CLASSES if variant in CLASSIFIERS else LABELS)
    assert len(controls) == 4
    assert all(control.passed and control.measured <= 1e-4 for control in controls)


@pytest.mark.parametrize("variant", HYBRIDS)
def test_layers_that_differ_prove_themselves_as_when_they_are_loaded(variant: str) -> None:
    prove(tiny(variant))


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_controls_pass_in_bfloat16_within_its_stated_tolerance(variant: str) -> None:
    subject = tiny(variant)
    subject.model.bfloat16()
    assert all(control.tolerance == 0.25 for control in run_controls(subject, UNEQUAL, LABELS))


def test_an_engine_that_computes_something_else_than_the_model_is_stopped() -> None:
    subject = tiny("gemma2-sliding-softcap")
    subject.model.config.final_logit_softcapping = 0.5
    with pytest.raises(ControlFailed) as caught:
        run_controls(subject, EQUAL, LABELS)
    assert any(detail.startswith("logits of a plain forward") for detail in caught.value.details)


def test_a_failed_control_is_named_with_its_deviation() -> None:
    failed = Control(name="self-patch", measured=0.2, tolerance=1e-4, passed=False)
    passed = Control(name="other", measured=0.0, tolerance=1e-4, passed=True)
    with pytest.raises(ControlFailed, match=r"1 of 2 controls") as caught:
        require([passed, failed])
    assert caught.value.details == ["self-patch: deviates by 0.2 nats, tolerance 0.0001"]


def test_what_ran_is_stated() -> None:
    subject: Subject = tiny("llama")
    found = measured(subject, ())
    assert (found.device, found.dtype, found.torch) == ("cpu", "float32", torch.__version__)
    assert found.threads == torch.get_num_threads()
