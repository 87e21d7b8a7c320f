"""Each decoder family of transformers is taken, or refused by name with a reason; so the documentation says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from audit_service.errors import ControlFailed, InvalidModel
from tests.workers.engine.models import GROUPED, SHAPE
from tests.workers.engine.words import tokenizer
from workers.engine.families import FAMILIES, REASONS, TOWERS, Flow, Names
from workers.engine.loading import load_subject

DOCUMENTED = Path(__file__).parents[3] / "docs/models.md"
OFFERED = {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES} - {"gpt-sw3"}
"""GPT-SW3's checkpoints say gpt2."""


def test_every_decoder_family_of_transformers_is_taken_or_refused_with_a_reason() -> None:
    refused = [name for names in REASONS.values() for name in names]
    assert sorted(refused) == sorted(OFFERED - {*FAMILIES, *TOWERS})


def _documented() -> dict[str, list[str]]:
    """First cell of each row of the tables → the names in its second cell."""
    rows = re.findall(r"^\| ([^|]+) \| ([a-z0-9_, -]+) \|", DOCUMENTED.read_text(), re.MULTILINE)
    return {first: second.split(", ") for first, second in rows}


def test_the_documentation_lists_every_family_by_how_its_runs_are_computed() -> None:
    documented = _documented()
    for flow, row in {
        Flow.PACKED: "Decoders that call transformers' attention interface",
        Flow.WHOLE: "Decoders that attend by their own means, or mix positions by recurrence or convolution as well",
        Flow.BOTH_WAYS: "Encoders with a sequence classification head",
        Flow.WHOLE_BOTH_WAYS: "Encoders that attend by their own means",
    }.items():
        assert documented[row] == sorted(name for name, names in FAMILIES.items() if names.flow is flow)
    assert documented["Models that read images as well"] == sorted(TOWERS)


def test_the_documentation_lists_every_refused_family_with_its_reason() -> None:
    documented = _documented()
    assert {reason: documented[reason] for reason in REASONS} == {
        reason: sorted(names) for reason, names in REASONS.items()
    }


@pytest.mark.parametrize(("reason", "names"), REASONS.items())
def test_a_refused_family_is_told_its_reason(tmp_path: Path, reason: str, names: tuple[str, ...]) -> None:
    (tmp_path / "model.safetensors").touch()
    for name in names:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": name}))
        with pytest.raises(InvalidModel, match=re.escape(f"family {name!r} are not supported: {reason}")):
            load_subject(tmp_path)


def _random(family: str, **options: Any) -> PreTrainedModel:
    words = tokenizer()
    config = CONFIG_MAPPING[family](**{**SHAPE, **GROUPED, **options, "vocab_size": len(words)})
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.25)
    return model


@pytest.mark.parametrize(
    ("family", "names", "words"),
    [
        ("doge", Names(), "calls its attention with dropout or a mask"),
        ("diffllama", Names(), "controls failed"),
        ("qwen3", Names(attn_add="input_layernorm"), "adds something else to the residual stream"),
        ("gemma2", Names(), "adds something else to the residual stream"),
    ],
)
def test_a_family_that_stands_wrongly_in_the_table_is_refused_when_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, names: Names, words: str
) -> None:
    """The table's word is not enough: a model is compared with its own plain forward before it is used."""
    _random(family).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    monkeypatch.setitem(FAMILIES, family, names)
    with pytest.raises((InvalidModel, ControlFailed), match=words):
        load_subject(tmp_path, device="cpu")
