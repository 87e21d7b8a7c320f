"""Which families of transformers' models are taken, with the names of their modules, and why others are not."""

from enum import StrEnum
from typing import NamedTuple

from transformers import PreTrainedConfig

from audit_service.errors import InvalidModel


class Flow(StrEnum):
    """Which positions a layer's attention reads, and through whom."""

    PACKED = "packed"
    """Earlier positions alone, through transformers' AttentionInterface: runs are packed, and resumed at a position."""
    WHOLE = "whole"
    """Earlier positions alone, by the family's own means: runs of one length go through the layers as a batch."""
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
    mlp_beside: str | None = None
    """A module, called before the MLP, whose output is added to the MLP's, where the layer has it."""
    parallel: bool = False
    """Attention and MLP always read the same input; some families leave it to the configuration."""
    flow: Flow = Flow.PACKED
    gives_pair: bool = False
    """The layer gives its attention weights beside the residual stream."""
    gated: bool = False
    """Heads' outputs are gated or normed between attention and z, so z is not pattern times values."""
    mixers: tuple[str, ...] = ()
    """Modules without heads (recurrence, convolution) that stand in for attention in some layers."""

    def inside(self, tower: str) -> "Names":
        """The same where the language model is a part of the model."""
        assert self.norm is not None  # noqa: S101 - language models have one
        layers, norm = (name.replace("model", tower, 1) for name in (self.layers, self.norm))
        return self._replace(layers=layers, norm=norm)


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
_GLM4 = Names(attn_add="post_self_attn_layernorm", mlp_add="post_mlp_layernorm")
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
_OWN_BERT = _BERT._replace(flow=Flow.WHOLE_BOTH_WAYS, gives_pair=True)
_DEBERTA = _OWN_BERT._replace(layers="deberta.encoder.layer")
_EXPERTS = "block_sparse_moe"
_SHARED = Names(mlp_in="shared_mlp", mlp_out="shared_mlp", mlp_add="shared_mlp", mlp_beside=_EXPERTS)
_FEEDS = Names(mlp_in="feed_forward", mlp_out="feed_forward", mlp_add="feed_forward", flow=Flow.WHOLE)
_CONV = _FEEDS._replace(
    norm="model.embedding_norm", out_proj="self_attn.out_proj", attn_add="self_attn.out_proj", mixers=("conv",)
)
_JAMBA = _FEEDS._replace(norm="model.final_layernorm", mixers=("mamba",))
_DELTA = Names(flow=Flow.WHOLE, mixers=("linear_attn",))
_LIKE_LLAMA = (
    "apertus", "arcee", "aria_text", "axk1", "cwm", "deepseek_v2", "deepseek_v3", "dots1", "ernie4_5", "ernie4_5_moe",
    "exaone_moe", "flint", "gemma", "glm", "glm4_moe", "glm4_moe_lite", "gpt_oss", "granite", "granite_swa", "helium",
    "hunyuan_v1_dense", "hunyuan_v1_moe", "hy_v3", "internlm3", "iquestcoder", "jais2", "llama", "mellum",
    "mimo_v2_flash", "minicpm3", "minimax_m2", "ministral", "ministral3", "mistral", "mixtral", "nanochat",
    "nemotron", "olmo", "olmoe", "phi3", "phimoe", "qwen2", "qwen2_5_vl_text", "qwen2_moe", "qwen2_vl_text", "qwen3",
    "qwen3_moe", "qwen3_vl_moe_text", "qwen3_vl_text", "seed_oss", "smollm3", "solar_open", "stablelm", "starcoder2",
    "vaultgemma", "youtu",
)  # fmt: skip
FAMILIES: dict[str, Names] = {
    **dict.fromkeys(_LIKE_LLAMA, _LLAMA),
    **dict.fromkeys(
        ("exaone4", "flex_olmo", "gemma2", "gemma3_text", "gemma4_text", "gemma4_unified_text", "olmo2", "olmo3"),
        _NORMED_BEHIND,
    ),
    "afmoe": Names(attn_add="post_attention_layernorm", mlp_add="post_mlp_layernorm", gated=True),
    **dict.fromkeys(("qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"), _DELTA),
    "bamba": _JAMBA._replace(gives_pair=True),
    "bert": _BERT._replace(layers="bert.encoder.layer"),
    "bitnet": _LLAMA._replace(gated=True),
    "biogpt": _OPT._replace(layers="biogpt.layers", norm="biogpt.layer_norm"),
    "bloom": _BLOOM,
    "camembert": _ROBERTA,
    "codegen": _GPTJ,
    "cohere": _LLAMA._replace(parallel=True),
    "cohere2": _LLAMA._replace(parallel=True),
    "cohere2_moe": _LLAMA._replace(parallel=True),
    "ctrl": Names(
        "transformer.h",
        "transformer.layernorm",
        "multi_head_attention",
        "multi_head_attention.dense",
        "multi_head_attention.dense",
        mlp_in="ffn",
        mlp_out="ffn",
        mlp_add="ffn",
    ),
    "dbrx": Names(
        "transformer.blocks",
        "transformer.norm_f",
        "norm_attn_norm.attn",
        "norm_attn_norm.attn.out_proj",
        "norm_attn_norm.attn.out_proj",
        mlp_in="ffn",
        mlp_out="ffn",
        mlp_add="ffn",
    ),
    "data2vec-text": _BERT._replace(layers="data2vec_text.encoder.layer"),
    "deberta": _DEBERTA,
    "deepseek_v32": _LLAMA._replace(flow=Flow.WHOLE),
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
    "electra": _BERT._replace(layers="electra.encoder.layer"),
    "ernie": _BERT._replace(layers="ernie.encoder.layer"),
    "eurobert": Names(norm=None, flow=Flow.BOTH_WAYS),
    "falcon": _BLOOM._replace(mlp_out="mlp", mlp_add="mlp"),
    "glm4": _GLM4,
    "hyperclovax": Names(attn_add="post_norm1", mlp_add="post_norm2"),
    "kolibri1": _GLM4,
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "gpt_neo": _GPTJ._replace(out_proj="attn.attention.out_proj", attn_add="attn.attention.out_proj", parallel=False),
    "gpt_neox": Names(
        "gpt_neox.layers", "gpt_neox.final_layer_norm", "attention", "attention.dense", "attention.dense"
    ),
    "gptj": _GPTJ,
    "jamba": _JAMBA,
    "lfm2": _CONV,
    "lfm2_moe": _CONV,
    "laguna": _LLAMA._replace(gated=True),
    "llama4_text": _FEEDS,
    "granitemoe_swa": _SHARED,
    "granitemoehybrid": _SHARED._replace(flow=Flow.WHOLE, mixers=("mamba",)),
    "granitemoeshared": _SHARED,
    "granitemoe": _LLAMA._replace(mlp_in=_EXPERTS, mlp_out=_EXPERTS, mlp_add=_EXPERTS),
    "megatron-bert": _OWN_BERT._replace(layers="bert.encoder.layer"),
    "modernbert": Names(norm=None, attention="attn", out_proj="attn.Wo", attn_add="attn.Wo", flow=Flow.BOTH_WAYS),
    "mpnet": _OWN_BERT._replace(
        layers="mpnet.encoder.layer",
        attention="attention.attn",
        out_proj="attention.attn.o",
        attn_add="attention.attn.o",
    ),
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
    "nomic_bert": Names("nomic_bert.layers", None, flow=Flow.BOTH_WAYS),
    "opt": _OPT,
    "persimmon": _DENSE,
    "phi": _DENSE._replace(parallel=True),
    "rembert": _OWN_BERT._replace(layers="rembert.encoder.layer"),
    "roberta": _ROBERTA,
    "roberta-prelayernorm": _BERT._replace(layers="roberta_prelayernorm.encoder.layer"),
    "roformer": _OWN_BERT._replace(layers="roformer.encoder.layer"),
    "xglm": _OPT._replace(layers="model.layers", norm="model.layer_norm", flow=Flow.WHOLE),
    "xlm-roberta": _ROBERTA,
    "xlm-roberta-xl": _ROBERTA,
}
"""model_type in config.json → names. A family is listed when tests show it equal to plain forward hooks."""

_TOWER = "model.language_model"
_TOWERS = (
    "gemma3", "gemma4", "gemma4_unified", "llava", "mistral3", "qwen2_5_vl", "qwen2_vl", "qwen3_5", "qwen3_5_moe",
    "qwen3_vl", "qwen3_vl_moe",
)  # fmt: skip
TOWERS: dict[str, str] = {**dict.fromkeys(_TOWERS, _TOWER), "llama4": "language_model.model"}
"""Models that read images as well → where in them the language model is, which alone is run, on texts."""

REASONS: dict[str, tuple[str, ...]] = {
    "their layers are recurrences without attention and MLP, or mix both in one sum": (
        "falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h", "rwkv", "xlstm", "zamba", "zamba2", "zaya",
    ),
    "they are hybrids of attention and recurrence or convolution whose parts no test covers": (
        "bailing_hybrid", "inkling2_text", "inkling_text", "kimi_linear", "lfm3", "olmo_hybrid", "recurrent_gemma",
    ),
    "they carry several residual streams side by side (hyper-connections, AltUp), so no site is the stream": (
        "deepseek_v4", "gemma3n", "gemma3n_text", "hy_v4", "qwen4_exp", "qwen4_exp_text",
    ),
    "their attention chooses its own keys (an indexer) in ways that no test covers, or for later layers too": (
        "axk2", "dots3_note", "dots3_note_text", "glm_moe_dsa", "minimax_m3_vl_text",
    ),
    "they read keys and values of another model": (
        "gemma4_assistant", "gemma4_unified_assistant",
    ),
    "they scale the stream itself between the parts that add to it, so resid_mid would be wrong": (
        "beam", "doge", "minimax",
    ),
    "what their MLP or attention adds comes out of no single module": (
        "longcat_flash",
    ),
    "their attention is not one softmax over one set of heads": (
        "diffllama", "jetmoe",
    ),
    "they run the same layers several times over, or over patches of bytes": (
        "blt", "hrm_text",
    ),
    "a part of the head stands between the last normalisation and the unembedding": (
        "modernbert-decoder",
    ),
    "some of their layers read images alone, and are left out on texts": (
        "mllama",
    ),
    "they read images or sound in ways that no test covers; save the language model inside as a model of its own": (
        "cohere_compass_text", "emu3", "fuyu", "git", "got_ocr2", "moshi", "moss_transcribe_diarize", "musicgen",
        "musicgen_melody", "phi4_multimodal", "trocr", "whisper",
    ),
    "they are one half of an encoder-decoder model": (
        "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "marian", "mbart", "mvp", "pegasus", "plbart",
        "prophetnet",
    ),
    "they are encoders run as decoders, which no test covers": (
        "bert-generation", "big_bird", "roc_bert", "xlm", "xlnet", "xmod",
    ),
    "they attend by means of their own, and no test covers them": (
        "cpmant", "gpt_neox_japanese", "openai-gpt", "reformer",
    ),
}  # fmt: skip
"""Why models are not taken → model_types; what is in neither table is refused as not proven."""


def require_family(model_type: str) -> None:
    """Raise InvalidModel, which says why, for a family that is not proven."""
    if model_type not in FAMILIES and model_type not in TOWERS:
        proven = "exactness is not proven for them"
        reason = next((why for why, names in REASONS.items() if model_type in names), proven)
        raise InvalidModel(
            f"models of the family {model_type!r} are not supported: {reason}",
            remedy=f"use a model of one of these families: {', '.join(sorted({*FAMILIES, *TOWERS}))}",
        )


def family_names(config: PreTrainedConfig) -> Names:
    """Module names of a model; InvalidModel where its family, or that of the language model in it, is not proven."""
    require_family(config.model_type)
    if config.model_type not in TOWERS:
        return FAMILIES[config.model_type]
    text = config.get_text_config().model_type
    require_family(text)
    return FAMILIES[text].inside(TOWERS[config.model_type])
