"""What a model folder is, read from its files alone: nothing of it is executed, and torch is not needed."""

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audit_service.domain.manifest import digest
from audit_service.domain.plan import ModelIdentity
from audit_service.errors import InvalidModel, ModelChanged

PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
LARGEST_HEADER = 100_000_000
"""Of a safetensors file, as its own library limits it."""
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_KV_HEADS = ("num_key_value_heads",)
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")


def inspect(folder: Path, *, name: str, version: str, dtype: str) -> ModelIdentity:
    """The identity of the model in the folder. ``dtype`` is what it shall be run in.

    Raises:
        InvalidModel: it is no model, wants code or pickles to be run, or lacks a part.
    """
    try:
        return _inspect(folder, name=name, version=version, dtype=dtype)
    except OSError as error:
        raise InvalidModel(
            f"The model's files cannot be read: {error}.", remedy="Give the service's user the right to read them."
        ) from error


def _inspect(folder: Path, *, name: str, version: str, dtype: str) -> ModelIdentity:
    config = _config(folder)
    _refuse_remote_code(folder)
    parameters = sum(_parameters(file) for file in _weights(folder))
    _require_tokenizer(folder)
    files = hashes(folder)
    return ModelIdentity(
        name=name,
        version=version,
        digest=digest(files),
        dtype=dtype,
        architecture=_architecture(config),
        layers=_number(config, _LAYERS, what="layers"),
        heads=(heads := _number(config, _HEADS, what="attention heads")),
        kv_heads=_found(config, _KV_HEADS) or heads,
        parameters=parameters,
        files=files,
        chat_template_digest=_chat_template_digest(folder),
    )


def verify_unchanged(identity: ModelIdentity, folder: Path) -> None:
    """Raise ModelChanged unless every file still has the digest it was registered with."""
    present = hashes(folder) if folder.is_dir() else {}
    known = identity.files
    if present == known:
        return
    changed = [f"{file}: changed" for file in sorted(known.keys() & present.keys()) if known[file] != present[file]]
    missing = [f"{file}: missing" for file in sorted(known.keys() - present.keys())]
    added = [f"{file}: added" for file in sorted(present.keys() - known.keys())]
    raise ModelChanged(
        f"The files of {identity.name} {identity.version} in {folder} are not those that were registered.",
        remedy="Put the registered files back, or register the present ones as a new version and plan anew.",
        details=changed + missing + added,
    )


def hashes(folder: Path) -> dict[str, str]:
    """File name → SHA-256 of every file, in order; hidden ones (a download's bookkeeping) are left out."""
    return {file.relative_to(folder).as_posix(): _sha256(file) for file in _files(folder)}


def _files(folder: Path) -> Iterator[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    for file in sorted(found):
        if not stat.S_ISREG(file.stat().st_mode):
            raise InvalidModel(f"{file} is no ordinary file.", remedy="Keep nothing but the model's files there.")
        yield file


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise InvalidModel(f"{folder} is no folder.", remedy="Name the folder that holds the model's config.json.")
    if (config := _json(folder / "config.json")) is None:
        raise InvalidModel(
            f"{folder} holds no model: it has no config.json.",
            remedy="Name a folder as `save_pretrained` writes it: config.json, *.safetensors and the tokenizer.",
        )
    return config


def _json(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidModel(f"{file} is not JSON: {error}.", remedy="Copy the model's files again.") from error
    if not isinstance(content, dict):
        raise InvalidModel(f"{file} is no JSON object.", remedy="Copy the model's files again.")
    return content


def _refuse_remote_code(folder: Path) -> None:
    for file in sorted(folder.glob("*.json")):
        if file.name.endswith("config.json") and "auto_map" in (_json(file) or {}):
            raise InvalidModel(
                f"The model wants code of its own to be run ({file.name} has auto_map); no remote code is run here.",
                remedy="Use a model whose architecture transformers itself knows.",
            )


def _weights(folder: Path) -> list[Path]:
    """The safetensors files; pickles beside them are never opened.

    Only files whose digest is part of the identity count: an index that points elsewhere names a missing file.
    """
    present = {file.relative_to(folder).as_posix() for file in _files(folder) if file.suffix == ".safetensors"}
    if index := _json(folder / "model.safetensors.index.json"):
        names = _indexed(index)
        if missing := [name for name in names if name not in present]:
            raise InvalidModel(
                f"The model is incomplete: {len(missing)} of {len(names)} weight files are missing.",
                remedy="Copy the files named into the folder, as safetensors.",
                details=missing,
            )
        return [folder / name for name in names]
    if weights := sorted(name for name in present if "/" not in name):
        return [folder / name for name in weights]
    raise _no_weights(folder)


def _indexed(index: dict[str, Any]) -> list[str]:
    """The weight files that an index names."""
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise InvalidModel(
            "model.safetensors.index.json has no weight_map from tensors to files.",
            remedy="Copy the model's files again.",
        )
    return sorted(set(places.values()))


def _no_weights(folder: Path) -> InvalidModel:
    convert = "Load it in a place you trust, call `save_pretrained(folder)`, and register that folder."
    if pickles := sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES):
        return InvalidModel(
            f"The weights are a pickle checkpoint ({', '.join(pickles)}); opening one can run any code.",
            remedy=convert,
        )
    if list(folder.glob("*.gguf")):
        return InvalidModel("The weights are GGUF without safetensors.", remedy=convert)
    return InvalidModel(f"{folder} holds no weights.", remedy="Add the model's *.safetensors files.")


def _parameters(file: Path) -> int:
    """Numbers in a safetensors file, from its header; the header must fit the file's size."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(LARGEST_HEADER, size - 8):
            raise _no_safetensors(file)
        text = stream.read(length)
    try:
        header = json.loads(text)
        tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
        end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        count = sum(_numbers(name, tensors) for name in tensors)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise _no_safetensors(file) from error
    if 8 + length + end != size:
        raise InvalidModel(f"{file.name} is cut off or damaged.", remedy="Copy the file again.")
    return count


def _numbers(name: str, tensors: dict[str, Any]) -> int:
    """How many of the model's numbers a tensor holds; bitsandbytes packs two in a byte and notes its scales beside."""
    owner, beside, _ = name.rpartition(".weight.")
    if (beside and f"{owner}.weight" in tensors) or name.endswith((".SCB", ".weight_format")):
        return 0
    held: int = math.prod(tensors[name]["shape"])
    return held * (2 if f"{name}.absmax" in tensors else 1)


def _no_safetensors(file: Path) -> InvalidModel:
    return InvalidModel(f"{file.name} is not a safetensors file.", remedy="Copy the model's files again.")


def _require_tokenizer(folder: Path) -> None:
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise InvalidModel(
            f"{folder} holds no tokenizer.", remedy="Add the tokenizer's files: `tokenizer.save_pretrained(folder)`."
        )


def _architecture(config: dict[str, Any]) -> str:
    match config.get("architectures"):
        case [str(name), *_]:
            return name
    raise InvalidModel("config.json names no architecture.", remedy="Add the list `architectures` to config.json.")


def _found(config: dict[str, Any], names: tuple[str, ...]) -> int | None:
    """The first of the names that the configuration, or its text part, has."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        for name in names:
            if isinstance(number := part.get(name), int) and number >= 1:
                return number
    return None


def _number(config: dict[str, Any], names: tuple[str, ...], *, what: str) -> int:
    if (number := _found(config, names)) is not None:
        return number
    raise InvalidModel(
        f"config.json does not say how many {what} the model has.", remedy=f"It stands in one of: {', '.join(names)}."
    )


def _chat_template_digest(folder: Path) -> str | None:
    """SHA-256 of the template; a file of its own goes before the tokenizer's configuration, as when it is loaded."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return _sha256(file)
    template = (_json(folder / "tokenizer_config.json") or {}).get("chat_template")
    if template is None:
        return None
    try:
        if isinstance(template, str):
            return hashlib.sha256(template.encode()).hexdigest()
        if isinstance(template, list):
            return digest(template)
    except UnicodeEncodeError as error:
        raise _no_template() from error
    raise _no_template()


def _no_template() -> InvalidModel:
    return InvalidModel(
        "The chat_template in tokenizer_config.json is no text.", remedy="Copy the model's files again."
    )
