"""Whatever happens inside, the model is left bit for bit as it was, and gives the same cells again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from audit_service.domain.labels import LabelTokens
from audit_service.errors import Cancelled, InvalidTrace, TooLittleMemory
from tests.workers.engine.models import tiny
from tests.workers.engine.test_matrix import CLEAN, CORRUPT, cells, kinds_of, labels_of
from workers.engine.answers import unpatched
from workers.engine.corruptions import noised
from workers.engine.decisions import measure_decisions
from workers.engine.donors import record
from workers.engine.entry import enter
from workers.engine.loading import Subject
from workers.engine.patching import patch
from workers.engine.placing import require_change

FAMILIES = ["llama", "gemma2-sliding-softcap", "gpt2-classes", "bloom-alibi", "bert", "deberta-v2", "modernbert-mean"]
FAMILIES += ["granitemoehybrid-experts"]
FAILURES = [torch.OutOfMemoryError, RuntimeError, KeyboardInterrupt, Cancelled]


def fingerprint(model: PreTrainedModel) -> tuple[Any, ...]:
    """Weights as bytes, and all that hooks and exchanged functions leave in modules and configurations."""
    configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    return (
        [
            (name, parameter.data_ptr(), hash(parameter.numpy().tobytes()))
            for name, parameter in model.named_parameters()
        ],
        [(name, sorted(module.__dict__), _hooks(module)) for name, module in model.named_modules()],
        [(key, config._attn_implementation) for key, config in configs.items()],
    )


def _hooks(module: nn.Module) -> tuple[int, ...]:
    return tuple(len(hooks) for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks))


@contextmanager
def failing(module: nn.Module, failure: type[BaseException]) -> Iterator[None]:
    """Let the module's forward raise, as a device without memory or an interrupt would."""

    def fail(*_: Any, **__: Any) -> None:
        raise failure("inside") if failure is not Cancelled else Cancelled("inside", remedy="none")

    own = type(module).forward
    type(module).forward = fail
    try:
        yield
    finally:
        type(module).forward = own


def _deepest(subject: Subject) -> nn.Module:
    """A module that every run passes in every layer, whatever is exchanged."""
    return subject.anatomy.blocks[-1].attention


@pytest.mark.parametrize("variant", FAMILIES)
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_inside_a_layer_leaves_nothing_behind(variant: str, failure: type[BaseException]) -> None:
    subject, labels = tiny(variant), labels_of(variant)
    exchanges = cells(subject, kinds_of(subject, inside=True), seed=1)
    sides = [record(subject, ids, neurons=True) for ids in (CORRUPT, CLEAN)]
    cells_before = patch(subject, *sides, exchanges, labels=labels)
    before = fingerprint(subject.model)
    with failing(_deepest(subject), failure):
        for act in (
            lambda: patch(subject, *sides, exchanges, labels=labels),
            lambda: record(subject, CLEAN),
            lambda: measure_decisions(subject, [CLEAN, CORRUPT], labels),
        ):
            with pytest.raises((failure, TooLittleMemory) if failure is torch.OutOfMemoryError else failure):
                act()
    assert fingerprint(subject.model) == before
    assert patch(subject, *sides, exchanges, labels=labels).tobytes() == cells_before.tobytes()


@pytest.mark.parametrize("variant", FAMILIES)
def test_a_failure_around_the_layers_leaves_nothing_behind(variant: str) -> None:
    subject, labels = tiny(variant), labels_of(variant)
    recording = record(subject, CLEAN)
    before = fingerprint(subject.model)
    with failing(subject.model.base_model, RuntimeError), pytest.raises(RuntimeError):
        enter(subject, CLEAN)
    head = subject.anatomy.final_norm if subject.anatomy.flow.causal else subject.model
    assert head is not None
    with failing(head, torch.OutOfMemoryError), pytest.raises(torch.OutOfMemoryError):
        unpatched(subject, [recording], labels)
    assert fingerprint(subject.model) == before


def test_a_cancelled_reading_of_whole_labels_leaves_nothing_behind() -> None:
    subject, asked = tiny("llama"), []
    labels = LabelTokens(favorable=((3, 4),), unfavorable=((12,),))
    before = fingerprint(subject.model)

    def stop() -> bool:
        asked.append(True)
        return len(asked) == 8

    with pytest.raises(Cancelled):
        measure_decisions(subject, [CLEAN, CORRUPT], labels, should_stop=stop)
    assert fingerprint(subject.model) == before


@pytest.mark.parametrize("variant", FAMILIES)
def test_the_same_seeds_give_the_same_bytes_in_a_model_made_anew(variant: str) -> None:
    labels, runs = labels_of(variant), []
    for _ in range(2):
        subject = tiny(variant)
        exchanges = cells(subject, kinds_of(subject, inside=True), seed=1)
        noisy, clean = noised(subject, CLEAN, (2, 3), seed=5), record(subject, CLEAN, neurons=True)
        patched = patch(subject, noisy, clean, exchanges, labels=labels)
        decided = measure_decisions(subject, [CLEAN, CORRUPT, CLEAN[:4]], labels)
        runs.append((patched.tobytes(), decided.d.tobytes(), decided.log_p_favorable.tobytes()))
    assert runs[0] == runs[1]


@pytest.mark.parametrize("variant", FAMILIES)
def test_a_patch_that_can_change_nothing_is_an_error_however_runs_are_computed(variant: str) -> None:
    subject = tiny(variant)
    run = record(subject, CLEAN, neurons=True)
    for exchange in cells(subject, kinds_of(subject, inside=True), seed=2):
        with pytest.raises(InvalidTrace, match=r"cannot change the decision|changes nothing"):
            require_change(subject.anatomy, [exchange], run, run)
