"""Load a model folder as it is: safetensors only, no remote code, a family that is proven."""

import json
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from audit_service.errors import InvalidModel
from workers.engine import heap
from workers.engine.anatomy import anatomy_of
from workers.engine.families import TOWERS, family_names, require_family
from workers.engine.quantization import require_exact
from workers.engine.selfcheck import prove
from workers.engine.subject import DTYPES, Subject

CLASSIFIER = "ForSequenceClassification"
WITH_IMAGES = "ForConditionalGeneration"
SPREAD = "spread"


class Description(NamedTuple):
    """What a model folder holds, read without its weights."""

    architecture: str
    """The class name in config.json."""
    family: str
    layers: int
    heads: int
    parameters: int
    has_chat_template: bool


def describe(path: str | Path) -> Description:
    """Read a model folder's shape without loading weights; InvalidModel if it cannot be audited."""
    config, architecture = _checked_config(Path(path))
    with torch.device("meta"):
        model: PreTrainedModel = _kind(architecture).from_config(config)
    model.tie_weights()
    anatomy = anatomy_of(model)
    return Description(
        architecture=architecture,
        family=anatomy.family,
        layers=anatomy.layers,
        heads=anatomy.heads,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        has_chat_template=load_tokenizer(Path(path)).chat_template is not None,
    )


def load_subject(path: str | Path, *, dtype: str = "float32", device: str = "auto") -> Subject:
    """Load model and tokenizer from a local folder, in evaluation mode, and compare it with its own plain forward.

    dtype is "float32", "bfloat16" or "float16"; device is "auto" (CUDA if present), a torch device name, or "spread":
    layer by layer over all GPUs, then the processor's memory. Weights that are packed in 8 or 4 bits stay so.

    Raises InvalidModel for anything that is no safe, complete, proven model, ControlFailed where the engine and the
    plain forward disagree, naming the remedy.
    """
    folder = Path(path)
    config, architecture = _checked_config(folder)
    if dtype not in DTYPES:
        raise InvalidModel(f"dtype {dtype!r} is unknown", remedy=f"use one of {', '.join(DTYPES)}")
    place, packed = _device(device), getattr(config, "quantization_config", None)
    if packed is not None and isinstance(place, torch.device):
        require_exact(folder.name, packed, place.type)
    # Packed weights cannot be moved once they are loaded.
    at_once = {"": place} if packed is not None else None
    model = _complete_model(folder, architecture, DTYPES[dtype], "auto" if place == SPREAD else at_once)
    if isinstance(place, torch.device) and packed is None:
        cast("nn.Module", model).to(place)  # transformers wraps its own, which then looks unbound to mypy
    subject = subject_of(model, load_tokenizer(folder))
    heap.keep_freed()
    prove(subject)
    return subject


def _kind(architecture: str) -> Any:  # noqa: ANN401 - transformers does not type its factories
    if architecture.endswith(CLASSIFIER):
        return AutoModelForSequenceClassification
    return AutoModelForImageTextToText if architecture.endswith(WITH_IMAGES) else AutoModelForCausalLM


def _complete_model(folder: Path, architecture: str, dtype: torch.dtype, device_map: object) -> PreTrainedModel:
    """The model with every weight from its files; transformers alone would fill gaps with random numbers."""
    try:
        loaded: Any = _kind(architecture).from_pretrained(
            folder,
            dtype=dtype,
            device_map=device_map,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise InvalidModel(
            f"{folder.name} cannot be loaded: {error}", remedy="copy the model's files again, or save them anew"
        ) from error
    model: PreTrainedModel
    model, found = loaded
    gaps = [*found["missing_keys"], *(str(key) for key in found["mismatched_keys"])]
    if gaps:
        raise InvalidModel(
            f"{folder.name} lacks {len(gaps)} of its weights, or has them in another shape",
            remedy="copy the model's files again; a model with random weights is not audited",
            details=sorted(gaps)[:20],
        )
    return model


def subject_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Subject:
    """Take a model that is already in memory; InvalidModel if it is on the meta device or not proven."""
    if any(parameter.is_meta for parameter in model.parameters()) and not hasattr(model, "hf_device_map"):
        raise InvalidModel(
            "the model is on the meta device: it has shapes but no weights",
            remedy="load it with enough memory for its weights, or on a smaller dtype",
        )
    model.train(mode=False).requires_grad_(requires_grad=False)
    return Subject(model=model, tokenizer=tokenizer, anatomy=anatomy_of(model))


def _device(name: str) -> torch.device | str:
    if name == SPREAD:
        return SPREAD
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InvalidModel(f"device {name!r} was asked for, but no CUDA device is present", remedy="use device cpu")
    if name == "meta":
        raise InvalidModel("the meta device holds no weights", remedy="use device auto, cpu or cuda")
    return torch.device(name)


def _checked_config(folder: Path) -> tuple[PreTrainedConfig, str]:
    """The configuration and the class name in it."""
    raw = _read_config(folder)
    if "auto_map" in raw:
        raise InvalidModel(
            f"{folder.name} wants to run its own Python code (auto_map in config.json)",
            remedy="use a model whose architecture is part of transformers; remote code is never run",
        )
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
        found = f"only pickle files ({', '.join(pickles)})" if pickles else "no weights"
        raise InvalidModel(
            f"{folder.name} holds {found}; weights are read from safetensors alone",
            remedy="convert it with save_pretrained, which writes safetensors, and register that folder",
        )
    require_family(raw.get("model_type", "none"))
    config: PreTrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    architecture = (raw.get("architectures") or ["none"])[0]
    heads = _heads_of(config)
    if not architecture.endswith(heads):
        raise InvalidModel(
            f"{architecture} is neither a causal language model nor a sequence classifier",
            remedy=f"register a model of a class that ends in {' or '.join(heads)}",
        )
    if packed := raw.get("quantization_config"):
        require_exact(folder.name, packed, None)
    return config, architecture


def _heads_of(config: PreTrainedConfig) -> tuple[str, ...]:
    """How the classes that are taken end, in a model of this family."""
    if not family_names(config).flow.causal:
        return (CLASSIFIER,)
    return (WITH_IMAGES, CLASSIFIER) if config.model_type in TOWERS else ("ForCausalLM", "LMHeadModel", CLASSIFIER)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    remedy = "give the path of a local Hugging Face model folder (config.json, *.safetensors, tokenizer files)"
    if not path.is_file():
        raise InvalidModel(f"{folder} is no model folder: it has no config.json", remedy=remedy)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidModel(f"{path} is not valid JSON: {error}", remedy=remedy) from error
    if not isinstance(raw, dict):
        raise InvalidModel(f"{path} holds no JSON object", remedy=remedy)
    return raw


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    if not (folder / "tokenizer.json").is_file():
        raise InvalidModel(
            f"{folder.name} has no tokenizer.json; character positions need a fast tokenizer",
            remedy="save the model's fast tokenizer into the folder with save_pretrained",
        )
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
