"""The work that a sweep cannot avoid, the speed of the machine's matrix products, and models of any size."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from audit_service.domain.beginnings import first_difference
from audit_service.domain.sites import SiteKind
from tests.planted import word_tokenizer
from workers.engine.anatomy import Anatomy
from workers.engine.loading import DTYPES, Subject
from workers.engine.positions import Exchange

SHAPES = {
    "tiny": (4, 64, 256, 4, 2),
    "135m": (30, 576, 1536, 9, 3),
    "360m": (32, 960, 2560, 15, 5),
    "1b": (16, 2048, 8192, 32, 8),
    "3b": (28, 3072, 8192, 24, 8),
    "8b": (32, 4096, 14336, 32, 8),
}
"""Name → layers, width, width of the MLP, heads, key-value heads: those of well-known Llama-like models."""


def random_model(
    shape: str, folder: Path, *, dtype: str = "float32", layers: int | None = None, context: int = 2048
) -> Path:
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
        max_position_embeddings=context,
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


class PerRow(NamedTuple):
    """Operations of one layer for one row."""

    queries: float
    keys_values: float
    out: float
    """The projection of the heads' outputs."""
    mlp: float
    attention: float
    """To one position."""

    @property
    def whole(self) -> float:
        return self.queries + self.keys_values + self.out + self.mlp


def work(
    model: PreTrainedModel, anatomy: Anatomy, cells: Sequence[Exchange], clean: Sequence[int], corrupt: Sequence[int]
) -> float:
    """Operations that exact patching of these cells needs when nothing is computed that cannot have changed.

    A cell needs, above the exchanged activation, the rows from its first changed position to the end; in the first
    layer above it queries, keys and values of the exchanged rows alone; of its own layer what stands behind the
    activation, for those rows; of the last layer all keys and values, but only the decision's row of the rest. The two
    unpatched runs, normalisations and the labels' logits are left out: they are small.
    """
    per_row = _per_row(anatomy.blocks[0].layer)
    return sum(_cell(anatomy.layers, cell, clean, corrupt, per_row) for cell in cells)


def whole_run(model: PreTrainedModel, anatomy: Anatomy, length: int) -> float:
    """Operations of one plain forward over a prompt, as those who resume nothing need them for each cell."""
    per_row = _per_row(anatomy.blocks[0].layer)
    layer = length * per_row.whole + per_row.attention * _attended(0, length)
    head: nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # transformers does not type it
    return anatomy.layers * layer + 2.0 * length * head.weight.numel()


def _per_row(layer: nn.Module) -> PerRow:
    linear = {name: module for name, module in layer.named_modules() if isinstance(module, nn.Linear)}
    weights = {name: module.weight.numel() for name, module in linear.items()}

    def operations(*names: str) -> float:
        return 2.0 * sum(count for name, count in weights.items() if name.split(".")[-1] in names)

    queries, keys_values, out = operations("q_proj"), operations("k_proj", "v_proj"), operations("o_proj")
    assert min(queries, keys_values, out), "work is counted for models with separate projections"
    width = next(module.in_features for name, module in linear.items() if name.endswith("o_proj"))
    mlp = 2.0 * sum(weights.values()) - queries - keys_values - out
    return PerRow(queries, keys_values, out, mlp, attention=4.0 * width)


def _attended(begin: int, length: int) -> int:
    """Pairs of a query from some position on and the positions that it sees."""
    return sum(range(begin + 1, length + 1))


BEHIND = {SiteKind.ATTN_OUT: ("mlp",), SiteKind.MLP_OUT: (), SiteKind.Z: ("out", "mlp")}
"""What is computed in a row's own layer when it is exchanged there."""


def _cell(layers: int, cell: Exchange, clean: Sequence[int], corrupt: Sequence[int], per_row: PerRow) -> float:
    first, length = first_difference(clean, corrupt), len(corrupt)
    begin = max(min(cell.recipient), first)
    exchanged = [at for at in cell.recipient if at >= first]
    if cell.kind not in BEHIND and cell.layer == 0:
        exchanged = [at for at in exchanged if clean[at] != corrupt[at]]
    enters = cell.layer + (cell.kind in BEHIND)
    if enters == layers:
        exchanged = [at for at in exchanged if at == length - 1]
    if not exchanged:
        return 0.0
    own = len(exchanged) * sum(getattr(per_row, part) for part in BEHIND.get(cell.kind, ()))
    return own + sum(
        _layer(per_row, len(exchanged) if layer == enters else length - begin, begin, length, last=layer == layers - 1)
        for layer in range(enters, layers)
    )


def _layer(per_row: PerRow, exchanged: int, begin: int, length: int, *, last: bool) -> float:
    """A layer that so many new rows enter: their keys and values, and whatever hears them."""
    if last:
        return exchanged * per_row.keys_values + per_row.whole - per_row.keys_values + per_row.attention * length
    heard = (length - begin) * (per_row.out + per_row.mlp) + per_row.attention * _attended(begin, length)
    return exchanged * (per_row.queries + per_row.keys_values) + heard
