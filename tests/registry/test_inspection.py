import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from audit_service.domain.manifest import digest
from audit_service.domain.plan import ModelIdentity
from audit_service.errors import InvalidModel, ModelChanged
from audit_service.registry.inspection import hashes, inspect, verify_unchanged


def identity(folder: Path) -> ModelIdentity:
    return inspect(folder, name="tiny", version="1", dtype="float32")


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_the_identity_is_read_from_the_files_alone(model_folder: Path) -> None:
    found = identity(model_folder)
    assert (found.layers, found.heads, found.kv_heads, found.parameters) == (2, 3, 3, 40)
    assert found.architecture == "LlamaForCausalLM"
    assert found.chat_template_digest == hashlib.sha256(b"{{ messages }}").hexdigest()


@pytest.mark.parametrize("place", [{"num_key_value_heads": 1}, {"text_config": {"num_key_value_heads": 1}}])
def test_heads_of_keys_and_values_are_counted_where_queries_share_them(model_folder: Path, place: Any) -> None:
    edit(model_folder / "config.json", **place)
    assert (identity(model_folder).heads, identity(model_folder).kv_heads) == (3, 1)


def test_every_file_is_hashed_and_the_digest_is_that_of_the_list(model_folder: Path) -> None:
    (model_folder / "sub").mkdir()
    (model_folder / "sub" / "more.txt").write_bytes(b"more")
    found = identity(model_folder)
    expected = {
        file.relative_to(model_folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in model_folder.rglob("*")
        if file.is_file()
    }
    assert found.files == expected
    listed = json.dumps(expected, sort_keys=True, separators=(",", ":")).encode()
    assert found.digest == hashlib.sha256(listed).hexdigest() == digest(expected)


def test_hidden_files_of_a_download_do_not_count(model_folder: Path) -> None:
    before = identity(model_folder)
    (model_folder / ".cache").mkdir()
    (model_folder / ".cache" / "when").write_text("today")
    (model_folder / ".gitattributes").write_text("*")
    assert identity(model_folder) == before


def test_links_into_a_cache_are_followed(model_folder: Path, tmp_path: Path) -> None:
    before = identity(model_folder)
    blob = tmp_path / "blob"
    (model_folder / "config.json").rename(blob)
    (model_folder / "config.json").symlink_to(blob)
    assert identity(model_folder) == before


def test_several_weight_files_are_counted_together(model_folder: Path) -> None:
    (model_folder / "model.safetensors").unlink()
    for number, rows in enumerate((2, 3)):
        save_file({f"w{number}": np.zeros((rows, 4), np.float16)}, model_folder / f"model-{number}.safetensors")
    index = {"weight_map": {"w0": "model-0.safetensors", "w1": "model-1.safetensors"}}
    (model_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert identity(model_folder).parameters == 2 * 4 + 3 * 4
    (model_folder / "model-1.safetensors").unlink()
    with pytest.raises(InvalidModel, match=r"1 of 2 weight files are missing(.|\n)*model-1.safetensors"):
        identity(model_folder)


def test_numbers_may_stand_in_the_text_part_of_the_configuration(model_folder: Path) -> None:
    (model_folder / "config.json").write_text(
        json.dumps({"architectures": ["X"], "text_config": {"n_layer": 7, "n_head": 5}})
    )
    found = identity(model_folder)
    assert (found.layers, found.heads) == (7, 5)


def test_a_template_file_goes_before_the_tokenizers_configuration(model_folder: Path) -> None:
    (model_folder / "chat_template.jinja").write_text("other")
    assert identity(model_folder).chat_template_digest == hashlib.sha256(b"other").hexdigest()


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"no config\.json"):
        identity(tmp_path)
    with pytest.raises(InvalidModel, match="is no folder"):
        identity(tmp_path / "nowhere")


def test_pickle_checkpoints_are_refused_and_never_opened(model_folder: Path) -> None:
    (model_folder / "model.safetensors").unlink()
    (model_folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(InvalidModel, match=r"pickle checkpoint \(pytorch_model.bin\)(.|\n)*save_pretrained"):
        identity(model_folder)


def test_a_pickle_beside_safetensors_is_hashed_but_does_no_harm(model_folder: Path) -> None:
    (model_folder / "training_args.bin").write_bytes(b"anything")
    assert "training_args.bin" in identity(model_folder).files


def test_a_pickle_that_calls_itself_safetensors_is_refused(model_folder: Path) -> None:
    (model_folder / "model.safetensors").write_bytes(b"PK\x03\x04" + b"\xff" * 100)
    with pytest.raises(InvalidModel, match="not a safetensors file"):
        identity(model_folder)


def test_weights_that_were_cut_off_are_refused(model_folder: Path) -> None:
    weights = model_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InvalidModel, match="cut off"):
        identity(model_folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_that_wants_code_of_its_own_is_refused(model_folder: Path, name: str) -> None:
    edit(model_folder / name, auto_map={"AutoModelForCausalLM": "evil.Model"})
    with pytest.raises(InvalidModel, match="no remote code is run"):
        identity(model_folder)


def test_a_model_without_a_tokenizer_is_refused(model_folder: Path) -> None:
    (model_folder / "tokenizer.json").unlink()
    with pytest.raises(InvalidModel, match="no tokenizer"):
        identity(model_folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is no JSON object"),
        ('{"architectures": ["X"], "num_attention_heads": 1}', "how many layers"),
        ('{"architectures": ["X"], "num_hidden_layers": 1}', "how many attention heads"),
        ('{"num_hidden_layers": 1, "num_attention_heads": 1}', "names no architecture"),
    ],
)
def test_a_configuration_that_says_too_little_is_refused(model_folder: Path, config: str, message: str) -> None:
    (model_folder / "config.json").write_text(config)
    with pytest.raises(InvalidModel, match=message):
        identity(model_folder)


def test_a_pipe_in_the_folder_is_refused_instead_of_waited_for(model_folder: Path) -> None:
    os.mkfifo(model_folder / "pipe")
    with pytest.raises(InvalidModel, match="no ordinary file"):
        identity(model_folder)


def test_a_link_to_nowhere_is_refused(model_folder: Path) -> None:
    (model_folder / "lost.json").symlink_to(model_folder / "nowhere")
    with pytest.raises(InvalidModel, match="cannot be read"):
        identity(model_folder)


def test_unchanged_files_are_accepted(model_folder: Path) -> None:
    verify_unchanged(identity(model_folder), model_folder)


def test_changed_missing_and_added_files_are_each_named(model_folder: Path) -> None:
    registered = identity(model_folder)
    (model_folder / "config.json").write_text("{}")
    (model_folder / "tokenizer.json").unlink()
    (model_folder / "new.txt").write_text("new")
    with pytest.raises(ModelChanged) as caught:
        verify_unchanged(registered, model_folder)
    assert caught.value.details == ["config.json: changed", "tokenizer.json: missing", "new.txt: added"]


def test_a_folder_that_is_gone_counts_as_changed(model_folder: Path, tmp_path: Path) -> None:
    registered = identity(model_folder)
    model_folder.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelChanged, match="missing"):
        verify_unchanged(registered, model_folder)


def test_hashes_come_in_the_order_of_names(model_folder: Path) -> None:
    assert list(hashes(model_folder)) == sorted(hashes(model_folder))


@pytest.mark.parametrize("places", [[], "x", {}, {"w": 5}])
def test_an_index_without_a_map_of_files_is_refused(model_folder: Path, places: object) -> None:
    (model_folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(InvalidModel, match="weight_map"):
        inspect(model_folder, name="m", version="1", dtype="float32")


@pytest.mark.parametrize("name", ["../outside.safetensors", ".hidden.safetensors", "weights.bin"])
def test_an_index_can_name_only_files_that_are_part_of_the_identity(model_folder: Path, name: str) -> None:
    shutil.copy(model_folder / "model.safetensors", model_folder / name)
    (model_folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"embed": name}}))
    with pytest.raises(InvalidModel) as caught:
        inspect(model_folder, name="m", version="1", dtype="float32")
    assert caught.value.details == [name]


@pytest.mark.parametrize("template", [5, "\ud800"])
def test_a_chat_template_that_is_no_text_is_refused(model_folder: Path, template: object) -> None:
    (model_folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    with pytest.raises(InvalidModel, match="chat_template"):
        inspect(model_folder, name="m", version="1", dtype="float32")
