"""The work that a sweep cannot avoid, the speed of the machine's matrix products, and models of any size."""

import time
from pathlib import Path

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from audit_service.domain.sites import SiteKind
from tests.planted import word_tokenizer
from workers.engine.anatomy import Anatomy
from workers.engine.loading import DTYPES, Subject
from workers.engine.positions import Exchange
from workers.engine.tokens import first_difference

SHAPES = {
    "tiny": (4, 64, 256, 4, 2),
    "135m": (30, 576, 1536, 9, 3),
    "360m": (32, 960, 2560, 15, 5),
    "1b": (16, 2048, 8192, 32, 8),
    "3b": (28, 3072, 8192, 24, 8),
    "8b": (32, 4096, 14336, 32, 8),
}
"""Name → layers, width, width of the MLP, heads, key-value heads: those of well-known Llama-like models."""


def random_model(shape: str, folder: Path, *, dtype: str = "float32", layers: int | None = None) -> Path:
    """A Llama of the given shape with random weights, saved; its vocabulary is small, since ours reads little of it."""
    depth, width, inner, heads, kv_heads = SHAPES[shape]
    tokenizer = word_tokenizer([f"w{number}" for number in range(500)])
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers or depth,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(DTYPES[dtype]).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def matmul_peak(subject: Subject, *, rows: int = 4096) -> float:
    """Operations per second of a matrix product as large as pays, in the subject's format on its device."""
    size = 2048 if subject.device.type == "cpu" else 8192
    left, right = (torch.randn(count, size).to(subject.device, subject.dtype) for count in (rows, size))
    best = float("inf")
    for _ in range(6):
        begin = time.perf_counter()
        float((left @ right)[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - begin)
    return 2 * rows * size * size / best


def work(
    model: PreTrainedModel, anatomy: Anatomy, cells: list[Exchange], clean: tuple[int, ...], corrupt: tuple[int, ...]
) -> float:
    """Operations that exact patching of these cells needs when nothing is computed that cannot have changed.

    A cell needs, from its layer on, the rows from its first changed position to the end; of its own layer what stands
    behind the exchanged activation; of the last layer all keys and values but only the decision's row of the rest. The
    two unpatched runs, normalisations and the labels' logits are left out: they are small.
    """
    first, length = first_difference(clean, corrupt), len(corrupt)
    per_row = _per_row(anatomy.blocks[0].layer, anatomy)
    return sum(_cell(anatomy, cell, first, length, per_row) for cell in cells)


def _per_row(layer: nn.Module, anatomy: Anatomy) -> tuple[float, float, float]:
    """Operations per row of a layer's (keys and values, other linear maps, attention to one position)."""
    weights = {name: module.weight.numel() for name, module in layer.named_modules() if isinstance(module, nn.Linear)}
    keys_values = sum(count for name, count in weights.items() if "k_proj" in name or "v_proj" in name)
    assert keys_values, "work is counted for models with separate projections"
    width = next(m.in_features for n, m in layer.named_modules() if isinstance(m, nn.Linear) and n.endswith("o_proj"))
    return 2.0 * keys_values, 2.0 * (sum(weights.values()) - keys_values), 4.0 * width


def _cell(anatomy: Anatomy, cell: Exchange, first: int, length: int, per_row: tuple[float, float, float]) -> float:
    keys_values, others, attention = per_row
    begin = max(min(cell.recipient), first)
    rows = length - begin
    if max(cell.recipient) < first:
        return 0.0
    behind = cell.kind in {SiteKind.ATTN_OUT, SiteKind.MLP_OUT, SiteKind.Z, SiteKind.RESID_POST}
    layers = anatomy.layers - cell.layer - behind
    if layers <= 0:
        return 0.0
    attended = attention * sum(range(begin + 1, length + 1))
    whole = rows * (keys_values + others) + attended
    last = rows * keys_values + others + attention * length
    return (layers - 1) * whole + last
