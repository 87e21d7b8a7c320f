"""Weights in 8 and 4 bits: cells equal plain hooks on the same packed model; all else is refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, BitsAndBytesConfig

from audit_service.errors import InvalidModel, InvalidTrace
from audit_service.registry.inspection import inspect
from tests.workers.engine import naive
from tests.workers.engine.models import SHAPE, tiny
from tests.workers.engine.test_matrix import CLEAN, CORRUPT, TOKENS, cells, kinds_of
from tests.workers.engine.words import tokenizer
from workers.engine import quantization
from workers.engine.attribution import attribute
from workers.engine.determinism import measured
from workers.engine.donors import record
from workers.engine.loading import describe, load_subject
from workers.engine.memory import row_bytes
from workers.engine.patching import patch
from workers.engine.selfcheck import PACKED
from workers.engine.wiring import Contrast

FOUR = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}
EIGHT = {"load_in_8bit": True, "llm_int8_threshold": 0.0}


def _saved(folder: Path, family: str = "llama", **packed: Any) -> Path:
    """A tiny model whose weights are saved in fewer bits; its rows are as long as a block of packed weights."""
    words = tokenizer()
    config = CONFIG_MAPPING[family](**{**SHAPE, "hidden_size": 64, "intermediate_size": 128, "vocab_size": len(words)})
    torch.manual_seed(0)
    whole = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    whole.save_pretrained(folder / "whole")
    words.save_pretrained(folder / "whole")
    model = AutoModelForCausalLM.from_pretrained(
        folder / "whole", dtype=torch.float32, quantization_config=BitsAndBytesConfig(**packed)
    )
    model.save_pretrained(folder / "packed")
    words.save_pretrained(folder / "packed")
    return folder / "packed"


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize(
    ("packed", "words"),
    [(FOUR, "4 bit (bitsandbytes nf4)"), (EIGHT, "8 bit (bitsandbytes)")],
)
def test_cells_of_a_packed_model_equal_plain_hooks_and_say_so(
    tmp_path: Path, family: str, packed: dict[str, Any], words: str
) -> None:
    subject = load_subject(_saved(tmp_path, family, **packed), device="cpu")
    exchanges = cells(subject, kinds_of(subject, inside=True), seed=3)
    sides = (record(subject, ids, neurons=True) for ids in (CORRUPT, CLEAN))
    found = patch(subject, *sides, exchanges, labels=TOKENS)
    expected = [naive.patched_decision(subject, CORRUPT, CLEAN, exchange, TOKENS) for exchange in exchanges]
    np.testing.assert_allclose(found, expected, atol=PACKED, rtol=0)
    assert np.ptp(expected) > 10 * PACKED
    assert measured(subject, ()).dtype == f"float32, weights in {words}"


@pytest.mark.parametrize("packed", [FOUR, EIGHT])
def test_a_packed_model_is_as_large_as_the_whole_one(tmp_path: Path, packed: dict[str, Any]) -> None:
    """In what is said of it, and in what runs in flight take beside its weights."""
    folder = _saved(tmp_path, **packed)
    whole, found = (load_subject(one, device="cpu") for one in (tmp_path / "whole", folder))
    parameters = sum(parameter.numel() for parameter in whole.model.parameters())
    assert inspect(folder, name="loans", version="1", dtype="float32").parameters == parameters
    assert describe(folder).parameters == parameters
    assert row_bytes(found) == row_bytes(whole)


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        ({"quant_method": "gptq", "bits": 4}, r"quantized \(gptq\): exactness is not proven"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "depend on the prompts beside it"),
    ],
)
def test_other_ways_of_packing_are_refused_by_name(tmp_path: Path, packed: dict[str, Any], words: str) -> None:
    tiny("llama", tokenizer=tokenizer()).model.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "quantization_config": packed}))
    with pytest.raises(InvalidModel, match=words):
        load_subject(tmp_path, device="cpu")


def test_what_the_machine_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    with pytest.raises(InvalidModel, match="not proven to be exact on mps"):
        quantization.require_exact("loans", packed, "mps")
    monkeypatch.setattr(quantization, "find_spec", lambda _: None)
    with pytest.raises(InvalidModel, match="this machine lacks the package bitsandbytes"):
        quantization.require_exact("loans", packed, "cpu")


def test_what_needs_the_weights_themselves_is_refused(tmp_path: Path) -> None:
    subject = load_subject(_saved(tmp_path, **FOUR), device="cpu")
    sides = [record(subject, ids) for ids in (CORRUPT, CLEAN)]
    with pytest.raises(InvalidTrace, match="no gradient goes through weights in 4 bit"):
        attribute(subject, *sides, cells(subject, kinds_of(subject, inside=False)[:1], seed=1), labels=TOKENS)
    with pytest.raises(InvalidTrace, match="cannot be taken apart head by head"):
        Contrast(subject, CLEAN, CORRUPT, TOKENS)
