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
_GPT2 = Names("transformer.h", "transformer.ln_f", "attn", "attn.c_proj", "attn.c_proj")
_GPTJ = Names(
    "transformer.h",
    "transformer.ln_f",
    "attn",
    "attn.out_proj",
    "attn.out_proj",
    parallel=True,
    flow=Flow.WHOLE,
    gives_pair=True,
)
_OPT = Names(
    "model.decoder.layers",
    "model.decoder.final_layer_norm",
    out_proj="self_attn.out_proj",
    attn_add="self_attn.out_proj",
    mlp_in="fc1",
    mlp_out="fc2",
    mlp_add="fc2",
)
_DENSE = Names(norm="model.final_layernorm", out_proj="self_attn.dense", attn_add="self_attn.dense")
_BLOOM = Names(
    "transformer.h",
    "transformer.ln_f",
    "self_attention",
    "self_attention.dense",
    "self_attention.dense",
    mlp_out="mlp.dense_4h_to_h",
    mlp_add="mlp.dense_4h_to_h",
    flow=Flow.WHOLE,
    gives_pair=True,
)
_ROBERTA = _BERT._replace(layers="roberta.encoder.layer")
_DEBERTA = _BERT._replace(layers="deberta.encoder.layer", flow=Flow.WHOLE_BOTH_WAYS, gives_pair=True)
_EXPERTS = "block_sparse_moe"
_LIKE_LLAMA = (
    "apertus", "arcee", "cwm", "dots1", "ernie4_5", "exaone_moe", "gemma", "glm", "granite", "helium",
    "hunyuan_v1_dense", "hy_v3", "jais2", "llama", "ministral", "ministral3", "mistral", "mixtral", "nanochat",
    "nemotron", "olmo", "olmoe", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3",
    "stablelm", "starcoder2", "vaultgemma",
)  # fmt: skip
FAMILIES: dict[str, Names] = {
    **dict.fromkeys(_LIKE_LLAMA, _LLAMA),
    **dict.fromkeys(("exaone4", "flex_olmo", "gemma2", "gemma3_text", "olmo2", "olmo3"), _NORMED_BEHIND),
    "bert": _BERT._replace(layers="bert.encoder.layer"),
    "biogpt": _OPT._replace(layers="biogpt.layers", norm="biogpt.layer_norm"),
    "bloom": _BLOOM,
    "camembert": _ROBERTA,
    "codegen": _GPTJ,
    "cohere": _LLAMA._replace(parallel=True),
    "cohere2": _LLAMA._replace(parallel=True),
    "deberta": _DEBERTA,
    "deberta-v2": _DEBERTA,
    "distilbert": Names(
        "distilbert.transformer.layer",
        None,
        "attention",
        "attention.out_lin",
        "attention.out_lin",
        mlp_in="ffn.lin1",
        mlp_out="ffn.lin2",
        mlp_add="ffn.lin2",
        flow=Flow.BOTH_WAYS,
    ),
    "ernie": _BERT._replace(layers="ernie.encoder.layer"),
    "falcon": _BLOOM._replace(mlp_out="mlp", mlp_add="mlp"),
    "glm4": Names(attn_add="post_self_attn_layernorm", mlp_add="post_mlp_layernorm"),
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "gpt_neo": _GPTJ._replace(out_proj="attn.attention.out_proj", attn_add="attn.attention.out_proj", parallel=False),
    "gpt_neox": Names(
        "gpt_neox.layers", "gpt_neox.final_layer_norm", "attention", "attention.dense", "attention.dense"
    ),
    "gptj": _GPTJ,
    "granitemoe": _LLAMA._replace(mlp_in=_EXPERTS, mlp_out=_EXPERTS, mlp_add=_EXPERTS),
    "modernbert": Names(norm=None, attention="attn", out_proj="attn.Wo", attn_add="attn.Wo", flow=Flow.BOTH_WAYS),
    "mpt": Names(
        "transformer.blocks",
        "transformer.norm_f",
        "attn",
        "attn.out_proj",
        "attn.out_proj",
        mlp_in="ffn.up_proj",
        mlp_out="ffn.down_proj",
        mlp_add="ffn.down_proj",
        flow=Flow.WHOLE,
        gives_pair=True,
    ),
    "opt": _OPT,
    "persimmon": _DENSE,
    "phi": _DENSE._replace(parallel=True),
    "roberta": _ROBERTA,
    "xglm": _OPT._replace(layers="model.layers", norm="model.layer_norm", flow=Flow.WHOLE),
    "xlm-roberta": _ROBERTA,
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
    logit_scale: float
    """Factor of the logits, before any cap."""
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
        context=None if getattr(config, "alibi", config.model_type in {"bloom", "mpt"}) else _context(config),
        logit_softcap=None if classifies else getattr(config, "final_logit_softcapping", None),
        logit_scale=1.0 if classifies else _logit_scale(config),
        parallel=names.parallel or _is_parallel(config),
    )


def _head(model: PreTrainedModel, *, classifies: bool) -> nn.Linear:
    head = model.get_submodule("score") if classifies else model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise InvalidModel(
            f"the head of this {model.config.model_type} model is a {type(head).__name__}: not supported",
            remedy="use a model with a linear language-model or classification head",
        )
    return head


def _context(config: PreTrainedConfig) -> int | None:
    longest: int | None = getattr(config, "max_position_embeddings", None)
    if longest is not None and config.model_type in {"camembert", "roberta", "xlm-roberta"}:
        return longest - int(config.pad_token_id or 0) - 1  # its positions are counted from behind the padding token's
    return longest


def _logit_scale(config: PreTrainedConfig) -> float:
    """Cohere multiplies its logits by logit_scale, Granite divides them by logits_scaling."""
    scale = getattr(config, "logit_scale", None)  # MPT and others know the name, but have no number there
    return float(scale or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)


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
        "residual_multiplier": getattr(config, "residual_multiplier", 1.0) != 1.0,
        "no sequence classification head": not names.flow.causal and not classifies,
    }
    if present := [name for name, found in variants.items() if found]:
        raise InvalidModel(
            f"this {config.model_type} model uses {', '.join(present)}, for which exactness is not proven",
            remedy="use a model of the family without that option",
        )
