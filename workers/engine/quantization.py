"""Weights in 8 or 4 bits: which ways of packing them are taken, and how a run says so."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from transformers import PreTrainedConfig

from audit_service.errors import InvalidModel

_METHOD = "bitsandbytes"
_DEVICES = frozenset({"cpu", "cuda"})
"""Where a cell has been compared with plain hooks on the same packed weights."""


def require_exact(name: str, packed: Mapping[str, Any], device: str | None) -> None:
    """Raise InvalidModel unless each row goes through such weights as if it were alone, on this device.

    ``packed`` is the quantization_config of config.json. LLM.int8() with a threshold is refused: which columns it takes
    out of the 8 bits depends on all rows that pass together (Dettmers et al. 2022, section 3.2).
    """
    method = str(packed.get("quant_method", "unknown method"))
    remedy = f"save its weights in float32, bfloat16 or float16, or with {_METHOD}, and audit that model"
    if method != _METHOD:
        raise InvalidModel(
            f"{name} is quantized ({method}): exactness is not proven for this method",
            remedy=remedy,
        )
    threshold = packed.get("llm_int8_threshold", 6.0)
    if _bits(packed) == 8 and threshold != 0:
        raise InvalidModel(
            f"{name} is quantized to 8 bits with llm_int8_threshold={threshold}: its numbers for one prompt then "
            "depend on the prompts beside it",
            remedy="save it with llm_int8_threshold=0, or in 4 bits, and audit that model",
        )
    if find_spec(_METHOD) is None:
        raise InvalidModel(
            f"{name} is quantized ({method}), and this machine lacks the package {_METHOD}",
            remedy="install audit-service[quantized], or audit the model's weights in a floating-point format",
        )
    if device is not None and device not in _DEVICES:
        raise InvalidModel(
            f"{name} is quantized ({method}), which is not proven to be exact on {device}",
            remedy=f"use device {' or '.join(sorted(_DEVICES))}",
        )


def packing(config: PreTrainedConfig) -> str | None:
    """How a loaded model's weights are packed, in words; None for weights in a floating-point format."""
    found = getattr(config, "quantization_config", None)
    if found is None:
        return None
    packed = dict(found) if isinstance(found, Mapping) else found.to_dict()
    kind = f" {packed['bnb_4bit_quant_type']}" if _bits(packed) == 4 else ""
    return f"{_bits(packed)} bit ({_METHOD}{kind})"


def _bits(packed: Mapping[str, Any]) -> int:
    return 4 if packed.get("load_in_4bit") else 8
