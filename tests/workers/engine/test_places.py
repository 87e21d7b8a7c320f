"""Long prompts, many layers, and models whose layers lie on several devices or are fetched when needed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from tests.workers.engine import naive
from tests.workers.engine.models import tiny
from tests.workers.engine.test_matrix import CLEAN, CORRUPT, cells, kinds_of, labels_of
from tests.workers.engine.words import tokenizer
from workers.engine.decisions import measure_decisions
from workers.engine.donors import record
from workers.engine.loading import Subject, subject_of
from workers.engine.patching import patch
from workers.engine.positions import Exchange

LABELS = LabelTokens.single(favorable=(3, 11), unfavorable=(12,))
LONG = 8192


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that is made inside."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.bytes = max(self.bytes, out.untyped_storage().nbytes())
        return out


def _llama(*, layers: int, positions: int, inner: int = 16) -> Subject:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=101,
        hidden_size=16,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=positions,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return subject_of(model, tokenizer())


def test_a_prompt_of_8192_tokens_is_patched_exactly_in_bounded_memory() -> None:
    subject = _llama(layers=2, positions=LONG + 8)
    clean = tuple(np.random.default_rng(0).integers(3, 100, size=LONG).tolist())
    corrupt = (*clean[:4000], 5, *clean[4001:])
    exchanges = [
        Exchange(SiteKind.RESID_PRE, 1, None, (4000,), (4000,)),
        Exchange(SiteKind.Z, 0, 1, (4000, 8191), (4000, 8191)),
    ]
    with Largest() as largest:
        found = patch(subject, record(subject, corrupt), record(subject, clean), exchanges, labels=LABELS)
    expected = [naive.patched_decision(subject, corrupt, clean, exchange, LABELS) for exchange in exchanges]
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    scores = 2 * LONG * LONG * 4
    assert largest.bytes < scores / 2


def test_a_model_of_a_hundred_layers_is_patched_exactly() -> None:
    subject = _llama(layers=100, positions=64)
    exchanges = [Exchange(SiteKind.ATTN_OUT, layer, None, (8,), (8,)) for layer in range(0, 100, 7)]
    found = patch(subject, record(subject, CORRUPT), record(subject, CLEAN), exchanges, labels=LABELS)
    expected = [naive.patched_decision(subject, CORRUPT, CLEAN, exchange, LABELS) for exchange in exchanges]
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


def _spread(model: PreTrainedModel, _: Path) -> None:
    dispatch_model(model, {"": "cpu"}, force_hooks=True)


def _fetched(model: PreTrainedModel, _: Path) -> None:
    cpu_offload(model, execution_device=torch.device("cpu"))


def _from_disk(model: PreTrainedModel, folder: Path) -> None:
    disk_offload(model, str(folder), execution_device=torch.device("cpu"))


@pytest.mark.parametrize("place", [_spread, _fetched, _from_disk])
@pytest.mark.parametrize("variant", ["llama", "gpt2", "bloom-alibi", "bert", "gemma2-classes"])
def test_layers_that_are_fetched_when_needed_change_no_number(
    variant: str, place: Callable[[PreTrainedModel, Path], None], tmp_path: Path
) -> None:
    subject, labels = tiny(variant), labels_of(variant)
    exchanges = cells(subject, kinds_of(subject, inside=True), seed=1)
    results = []
    for _ in range(2):
        sides = (record(subject, ids, neurons=True) for ids in (CORRUPT, CLEAN))
        patched = patch(subject, *sides, exchanges, labels=labels)
        decided = measure_decisions(subject, [CLEAN, CORRUPT, CLEAN[:5]], labels)
        results.append((patched, decided.d))
        if len(results) == 1:
            place(subject.model, tmp_path)
    assert any(hasattr(module, "_hf_hook") for module in subject.anatomy.blocks[0].layer.modules())
    for before, after in zip(*results, strict=True):
        np.testing.assert_allclose(after, before, atol=1e-5, rtol=0)
