"""Model folders are taken as they are, or refused with the reason."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from audit_service.errors import ControlFailed, InvalidModel
from tests.workers.engine.models import tiny
from tests.workers.engine.words import tokenizer
from workers.engine.loading import describe, load_subject, subject_of
from workers.engine.subject import Subject


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    subject = tiny("llama", tokenizer=tokenizer())
    subject.model.save_pretrained(tmp_path)
    subject.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def _change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_folder_is_described_without_its_weights(folder: Path) -> None:
    expected = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(folder).parameters())
    (folder / "model.safetensors").write_bytes(b"no weights to be read")
    found = describe(folder)
    assert (found.architecture, found.family) == ("LlamaForCausalLM", "llama")
    assert (found.layers, found.heads, found.parameters, found.has_chat_template) == (3, 4, expected, True)


def test_a_loaded_subject_computes_what_was_saved(folder: Path) -> None:
    ids = torch.tensor([[5, 6, 7]])
    subject = load_subject(folder, device="cpu")
    with torch.no_grad():
        assert torch.equal(subject.model(ids).logits, tiny("llama").model(ids).logits)
    assert (subject.dtype, subject.device.type, subject.model.training) == (torch.float32, "cpu", False)


def test_the_dtype_asked_for_is_the_dtype_loaded(folder: Path) -> None:
    assert load_subject(folder, dtype="bfloat16", device="cpu").dtype is torch.bfloat16


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"no config\.json"):
        load_subject(tmp_path)


def test_a_config_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(InvalidModel, match="not valid JSON"):
        describe(folder)


def test_pickle_checkpoints_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InvalidModel, match=r"only pickle files \(pytorch_model\.bin\)"):
        load_subject(folder)


def test_remote_code_is_refused(folder: Path) -> None:
    _change_config(folder, auto_map={"AutoModelForCausalLM": "modeling.Mine"})
    with pytest.raises(InvalidModel, match="own Python code"):
        load_subject(folder)


def test_a_family_that_is_not_proven_is_refused_by_name(folder: Path) -> None:
    _change_config(folder, model_type="mamba")
    with pytest.raises(InvalidModel, match="'mamba'"):
        describe(folder)


def test_a_model_without_a_language_head_is_refused(folder: Path) -> None:
    _change_config(folder, architectures=["LlamaModel"])
    with pytest.raises(InvalidModel, match="LlamaModel is neither a causal language model nor a sequence classifier"):
        describe(folder)


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InvalidModel, match=r"no tokenizer\.json"):
        load_subject(folder)


def test_an_unknown_dtype_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidModel, match="'int3'"):
        load_subject(folder, dtype="int3")


def test_the_meta_device_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidModel, match="meta"):
        load_subject(folder, device="meta")
    subject = tiny("llama")
    with pytest.raises(InvalidModel, match="meta"):
        subject_of(subject.model.to("meta"), subject.tokenizer)


@pytest.mark.parametrize(
    ("variant", "option"),
    [
        ("opt", "do_layer_norm_before"),
        ("gpt2", "reorder_and_upcast_attn"),
        ("gemma4_text", "num_kv_shared_layers"),
        ("gemma4_text", "hidden_size_per_layer_input"),
    ],
)
def test_variants_that_are_not_proven_are_refused_by_name(variant: str, option: str) -> None:
    subject = tiny(variant)
    value = getattr(subject.model.config, option)
    setattr(subject.model.config, option, type(value)(not value))
    with pytest.raises(InvalidModel, match=option):
        subject_of(subject.model, subject.tokenizer)


def test_a_model_that_lacks_a_weight_is_refused_by_its_name(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(InvalidModel) as caught:
        load_subject(folder, device="cpu")
    assert caught.value.details == ["model.layers.1.mlp.up_proj.weight"]


def test_a_weight_of_another_shape_is_refused(folder: Path) -> None:
    _change_config(folder, intermediate_size=40)
    with pytest.raises(InvalidModel, match=r"weights|cannot be loaded"):
        load_subject(folder, device="cpu")


def test_damaged_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(InvalidModel, match="cannot be loaded"):
        load_subject(folder, device="cpu")


def _loaded_as_saved(folder: Path, variant: str, words: PreTrainedTokenizerFast) -> Subject:
    """The model as it is loaded, which gives the logits that it gave when it was saved."""
    saved = tiny(variant, tokenizer=words, vocabulary=len(words))
    saved.model.save_pretrained(folder)
    words.save_pretrained(folder)
    subject, ids = load_subject(folder, device="cpu"), torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(subject.model(ids).logits, saved.model(ids).logits)
    return subject


@pytest.mark.parametrize("variant", ["bert", "llama-classes"])
def test_a_classifier_is_loaded_with_its_head(tmp_path: Path, variant: str) -> None:
    subject = _loaded_as_saved(tmp_path, variant, tokenizer(beginning=True, end=True))
    assert (subject.anatomy.classifies, subject.anatomy.vocabulary, describe(tmp_path).layers) == (True, 3, 3)


@pytest.mark.parametrize("variant", ["gemma3-images", "llama4-images", "qwen3_5-images"])
def test_of_a_model_that_reads_images_the_language_model_is_run(tmp_path: Path, variant: str) -> None:
    subject = _loaded_as_saved(tmp_path, variant, tokenizer())
    assert (subject.anatomy.layers, describe(tmp_path).layers) == (3, 3)


def test_a_model_that_reads_images_with_a_language_model_that_is_not_proven_is_refused(folder: Path) -> None:
    _change_config(
        folder, model_type="llava", architectures=["LlavaForConditionalGeneration"], text_config={"model_type": "mamba"}
    )
    with pytest.raises(InvalidModel, match="'mamba'"):
        describe(folder)


def test_an_encoder_without_a_classification_head_is_refused(folder: Path) -> None:
    _change_config(folder, model_type="bert", architectures=["BertForMaskedLM"])
    with pytest.raises(InvalidModel, match="BertForMaskedLM is neither"):
        describe(folder)


def test_a_model_that_the_engine_computes_otherwise_is_refused_when_it_is_loaded(
    folder: Path,
) -> None:
    """A later version of a family may compute what the table does not say; here a cap on the logits."""
    _change_config(folder, final_logit_softcapping=0.01)
    with pytest.raises(ControlFailed, match="cannot be trusted") as caught:
        load_subject(folder, device="cpu")
    assert any(detail.startswith("logits of a plain forward") for detail in caught.value.details)


def test_a_model_spread_over_devices_computes_what_it_computes_on_one(folder: Path) -> None:
    one, several = load_subject(folder, device="cpu"), load_subject(folder, device="spread")
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        torch.testing.assert_close(several.model(ids).logits.cpu(), one.model(ids).logits, atol=1e-4, rtol=0)
