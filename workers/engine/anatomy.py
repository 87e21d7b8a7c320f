"""Where the parts of a Hugging Face decoder are: one table row per family that is proven by the tests."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import nn
from transformers import PreTrainedModel

from audit_service.errors import InvalidModel


class Names(NamedTuple):
    """Paths of modules: the first two from the model, the others from one decoder layer."""

    layers: str = "model.layers"
    norm: str = "model.norm"
    """Last normalisation, before the unembedding."""
    attention: str = "self_attn"
    out_proj: str = "self_attn.o_proj"
    """Its input is z, the heads' outputs side by side."""
    attn_add: str = "self_attn.o_proj"
    """Its output is what attention adds to the residual stream."""
    mlp_in: str = "mlp"
    mlp_out: str = "mlp"
    mlp_add: str = "mlp"
    """Its output is what the MLP adds to the residual stream."""
    parallel: bool = False
    """Attention and MLP always read the same input; some families leave it to the configuration."""


_LLAMA = Names()
_NORMED_BEHIND = Names(attn_add="post_attention_layernorm", mlp_add="post_feedforward_layernorm")
FAMILIES: dict[str, Names] = {
    "gemma": _LLAMA,
    "gemma2": _NORMED_BEHIND,
    "gemma3_text": _NORMED_BEHIND,
    "gpt2": Names("transformer.h", "transformer.ln_f", "attn", "attn.c_proj", "attn.c_proj"),
    "gpt_neox": Names(
        "gpt_neox.layers", "gpt_neox.final_layer_norm", "attention", "attention.dense", "attention.dense"
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": _LLAMA,
    "olmo": _LLAMA,
    "olmo2": _NORMED_BEHIND,
    "opt": Names(
        "model.decoder.layers",
        "model.decoder.final_layer_norm",
        out_proj="self_attn.out_proj",
        attn_add="self_attn.out_proj",
        mlp_in="fc1",
        mlp_out="fc2",
        mlp_add="fc2",
    ),
    "phi": Names(norm="model.final_layernorm", out_proj="self_attn.dense", attn_add="self_attn.dense", parallel=True),
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "qwen3_moe": _LLAMA,
    "smollm3": _LLAMA,
    "stablelm": _LLAMA,
    "starcoder2": _LLAMA,
}
"""model_type in config.json → names. A family is listed when tests show it equal to plain forward hooks."""


@dataclass(frozen=True, slots=True)
class Block:
    """One decoder layer and the modules inside at which activations are read and exchanged."""

    layer: nn.Module
    attention: nn.Module
    out_proj: nn.Module
    attn_add: nn.Module
    mlp_in: nn.Module
    mlp_out: nn.Module
    mlp_add: nn.Module


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The parts of one decoder."""

    family: str
    blocks: tuple[Block, ...]
    final_norm: nn.Module
    unembedding: nn.Linear
    width: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int | None
    """Longest prompt the position encoding is made for; None where there is no such limit."""
    logit_softcap: float | None
    parallel: bool
    """Attention and MLP read the same input, so there is no residual stream between them."""

    @property
    def layers(self) -> int:
        return len(self.blocks)


def family_names(model_type: str) -> Names:
    """Module names of a family; InvalidModel names a family that is not proven."""
    if model_type not in FAMILIES:
        raise InvalidModel(
            f"models of the family {model_type!r} are not supported: exactness is not proven for them",
            remedy=f"use a decoder of one of these families: {', '.join(sorted(FAMILIES))}",
        )
    return FAMILIES[model_type]


def anatomy_of(model: PreTrainedModel) -> Anatomy:
    """Find the parts of a causal language model; InvalidModel if its family or variant is not proven."""
    config = model.config
    names = family_names(config.model_type)
    _refuse_variants(model)
    get = model.get_submodule
    unembedding = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return Anatomy(
        family=config.model_type,
        blocks=tuple(_block(layer, names) for layer in get(names.layers).children()),
        final_norm=get(names.norm),
        unembedding=unembedding,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
        vocabulary=unembedding.out_features,
        context=getattr(config, "max_position_embeddings", None),
        logit_softcap=getattr(config, "final_logit_softcapping", None),
        parallel=names.parallel or bool(getattr(config, "use_parallel_residual", False)),
    )


def _block(layer: nn.Module, names: Names) -> Block:
    parts = (names.attention, names.out_proj, names.attn_add, names.mlp_in, names.mlp_out, names.mlp_add)
    return Block(layer, *(layer.get_submodule(part) for part in parts))


def _refuse_variants(model: PreTrainedModel) -> None:
    """Refuse configurations of a proven family that compute something else than the proven ones."""
    config = model.config
    variants = {
        "do_layer_norm_before=False": getattr(config, "do_layer_norm_before", True) is False,
        "word_embed_proj_dim": getattr(config, "word_embed_proj_dim", config.hidden_size) != config.hidden_size,
        "add_cross_attention": bool(getattr(config, "add_cross_attention", False)),
        "reorder_and_upcast_attn": bool(getattr(config, "reorder_and_upcast_attn", False)),
        "use_bidirectional_attention": bool(getattr(config, "use_bidirectional_attention", False)),
    }
    if present := [name for name, found in variants.items() if found]:
        raise InvalidModel(
            f"this {config.model_type} model uses {', '.join(present)}, for which exactness is not proven",
            remedy="use a model of the family without that option",
        )
