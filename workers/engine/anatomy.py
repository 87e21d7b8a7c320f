"""Where the parts of a Hugging Face transformer are: one table row per family that is proven by the tests."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from audit_service.errors import InvalidModel


class Flow(StrEnum):
    """Which positions a layer's attention reads, and through whom."""

    PACKED = "packed"
    """Earlier positions alone, through transformers' AttentionInterface: runs are packed, and resumed at a position."""
    WHOLE = "whole"
    """Earlier positions alone, by the family's own attention: runs of one length go through the layers as a batch."""
    BOTH_WAYS = "both_ways"
    """All positions, through the AttentionInterface: runs are packed, and every position is computed anew."""
    WHOLE_BOTH_WAYS = "whole_both_ways"
    """All positions, by the family's own attention."""

    @property
    def packs(self) -> bool:
        return self in {Flow.PACKED, Flow.BOTH_WAYS}

    @property
    def causal(self) -> bool:
        return self in {Flow.PACKED, Flow.WHOLE}


class Names(NamedTuple):
    """Paths of modules: the first two from the model, the others from one layer."""

    layers: str = "model.layers"
    norm: str | None = "model.norm"
    """Last normalisation, before the unembedding; None for encoders, whose own head is called as a whole."""
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
    flow: Flow = Flow.PACKED
    gives_pair: bool = False
    """The layer gives its attention weights beside the residual stream."""


_LLAMA = Names()
_BERT = Names(
    norm=None,
    attention="attention.self",
    out_proj="attention.output.dense",
    attn_add="attention.output.dense",
    mlp_in="intermediate.dense",
    mlp_out="output.dense",
    mlp_add="output.dense",
    flow=Flow.BOTH_WAYS,
)
_NORMED_BEHIND = Names(attn_add="post_attention_layernorm", mlp_add="post_feedforward_layernorm")
FAMILIES: dict[str, Names] = {
    "bert": _BERT._replace(layers="bert.encoder.layer"),
    "bloom": Names(
        "transformer.h",
        "transformer.ln_f",
        "self_attention",
        "self_attention.dense",
        "self_attention.dense",
        mlp_out="mlp.dense_4h_to_h",
        mlp_add="mlp.dense_4h_to_h",
        flow=Flow.WHOLE,
        gives_pair=True,
    ),
    "deberta": _BERT._replace(layers="deberta.encoder.layer", flow=Flow.WHOLE_BOTH_WAYS, gives_pair=True),
    "deberta-v2": _BERT._replace(layers="deberta.encoder.layer", flow=Flow.WHOLE_BOTH_WAYS, gives_pair=True),
    "falcon": Names(
        "transformer.h",
        "transformer.ln_f",
        "self_attention",
        "self_attention.dense",
        "self_attention.dense",
        flow=Flow.WHOLE,
        gives_pair=True,
    ),
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
    "modernbert": Names(norm=None, attention="attn", out_proj="attn.Wo", attn_add="attn.Wo", flow=Flow.BOTH_WAYS),
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
    "roberta": _BERT._replace(layers="roberta.encoder.layer"),
    "smollm3": _LLAMA,
    "stablelm": _LLAMA,
    "starcoder2": _LLAMA,
}
"""model_type in config.json → names. A family is listed when tests show it equal to plain forward hooks."""


@dataclass(frozen=True, slots=True)
class Block:
    """One layer and the modules inside at which activations are read and exchanged."""

    layer: nn.Module
    attention: nn.Module
    out_proj: nn.Module
    attn_add: nn.Module
    mlp_in: nn.Module
    mlp_out: nn.Module
    mlp_add: nn.Module


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The parts of one model."""

    family: str
    blocks: tuple[Block, ...]
    flow: Flow
    gives_pair: bool
    classifies: bool
    """The head tells classes, not tokens: a label is then the number of a class."""
    final_norm: nn.Module | None
    """None for encoders, whose head is called as a whole."""
    unembedding: nn.Linear | None
    """From the normed residual stream to the logits of tokens or classes; None for encoders."""
    width: int
    heads: int
    kv_heads: int
    vocabulary: int
    """Number of logits: tokens, or classes."""
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
            remedy=f"use a model of one of these families: {', '.join(sorted(FAMILIES))}",
        )
    return FAMILIES[model_type]


def anatomy_of(model: PreTrainedModel) -> Anatomy:
    """Find the parts of a language model or classifier; InvalidModel if its family or variant is not proven."""
    config = model.config
    names = family_names(config.model_type)
    classifies = type(model).__name__.endswith("ForSequenceClassification")
    _refuse_variants(model, names, classifies=classifies)
    get = model.get_submodule
    head = None if names.norm is None else _head(model, classifies=classifies)
    return Anatomy(
        family=config.model_type,
        blocks=tuple(_block(layer, names) for layer in get(names.layers).children()),
        flow=names.flow,
        gives_pair=names.gives_pair,
        classifies=classifies,
        final_norm=None if names.norm is None else get(names.norm),
        unembedding=head,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
        vocabulary=int(config.num_labels or 0) if head is None else head.out_features,
        context=None if getattr(config, "alibi", config.model_type == "bloom") else _context(config),
        logit_softcap=None if classifies else getattr(config, "final_logit_softcapping", None),
        parallel=names.parallel or _is_parallel(config),
    )


def _head(model: PreTrainedModel, *, classifies: bool) -> nn.Linear:
    head = model.get_submodule("score") if classifies else model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(head, nn.Linear):
        raise InvalidModel(
            f"the head of this {model.config.model_type} model is a {type(head).__name__}: not supported",
            remedy="use a model with a linear language-model or classification head",
        )
    return head


def _context(config: PreTrainedConfig) -> int | None:
    longest: int | None = getattr(config, "max_position_embeddings", None)
    if longest is not None and config.model_type == "roberta":
        return longest - int(config.pad_token_id or 0) - 1  # its positions are counted from behind the padding token's
    return longest


def _is_parallel(config: PreTrainedConfig) -> bool:
    falcon = config.model_type == "falcon" and (config.parallel_attn or config.new_decoder_architecture)
    return bool(falcon or getattr(config, "use_parallel_residual", False))


def _block(layer: nn.Module, names: Names) -> Block:
    parts = (names.attention, names.out_proj, names.attn_add, names.mlp_in, names.mlp_out, names.mlp_add)
    return Block(layer, *(layer.get_submodule(part) for part in parts))


def _refuse_variants(model: PreTrainedModel, names: Names, *, classifies: bool) -> None:
    """Refuse configurations of a proven family that compute something else than the proven ones."""
    config = model.config
    variants = {
        "do_layer_norm_before=False": getattr(config, "do_layer_norm_before", True) is False,
        "word_embed_proj_dim": getattr(config, "word_embed_proj_dim", config.hidden_size) != config.hidden_size,
        "add_cross_attention": bool(getattr(config, "add_cross_attention", False)),
        "reorder_and_upcast_attn": bool(getattr(config, "reorder_and_upcast_attn", False)),
        "use_bidirectional_attention": bool(getattr(config, "use_bidirectional_attention", False)),
        "conv_kernel_size": getattr(config, "conv_kernel_size", 0) > 0 and config.model_type == "deberta-v2",
        "is_decoder": not names.flow.causal and bool(getattr(config, "is_decoder", False)),
        "apply_residual_connection_post_layernorm": bool(
            getattr(config, "apply_residual_connection_post_layernorm", False)
        ),
        "no sequence classification head": not names.flow.causal and not classifies,
    }
    if present := [name for name, found in variants.items() if found]:
        raise InvalidModel(
            f"this {config.model_type} model uses {', '.join(present)}, for which exactness is not proven",
            remedy="use a model of the family without that option",
        )
