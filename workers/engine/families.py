"""Which families of transformers' models are taken, with the names of their modules, and why others are not."""

from enum import StrEnum
from typing import NamedTuple

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


def family_names(model_type: str) -> Names:
    """Module names of a family; InvalidModel names a family that is not proven."""
    if model_type not in FAMILIES:
        raise InvalidModel(
            f"models of the family {model_type!r} are not supported: exactness is not proven for them",
            remedy=f"use a model of one of these families: {', '.join(sorted(FAMILIES))}",
        )
    return FAMILIES[model_type]
