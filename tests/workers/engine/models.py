"""Tiny random models of the supported families, and a tokenizer of the tests' own."""

from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from workers.engine.loading import Subject, subject_of

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    "gpt2": ("gpt2", {}),
    "gpt2-scaled-by-layer": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    "llama": ("llama", GROUPED),
    "llama-wide-heads": ("llama", {"num_key_value_heads": 1, "head_dim": 16, "attention_bias": True}),
    "mistral-sliding": ("mistral", {**GROUPED, "sliding_window": 4}),
    "qwen2": ("qwen2", {"num_key_value_heads": 2}),
    "qwen3": ("qwen3", GROUPED),
    "phi3": ("phi3", {"num_key_value_heads": 2}),
    "gemma2-sliding-softcap": ("gemma2", {**GROUPED, "sliding_window": 4, "attn_logit_softcapping": 0.5}),
    "gemma3": (
        "gemma3_text",
        {**GROUPED, "sliding_window": 4, "layer_types": ["sliding_attention"] * 2 + ["full_attention"]},
    ),
    "gemma": ("gemma", GROUPED),
    "gpt_neox-parallel": ("gpt_neox", {"use_parallel_residual": True}),
    "gpt_neox-sequential": ("gpt_neox", {"use_parallel_residual": False}),
    "opt": ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "olmo": ("olmo", {"num_key_value_heads": 2, "clip_qkv": 0.8}),
    "olmo2": ("olmo2", {"num_key_value_heads": 2}),
    "phi": ("phi", {"num_key_value_heads": 2, "tie_word_embeddings": False}),
    "qwen3-moe": (
        "qwen3_moe",
        {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "mlp_only_layers": [1]},
    ),
    "smollm3": ("smollm3", {"num_key_value_heads": 2, "no_rope_layers": [1, 0, 1]}),
    "stablelm-parallel": ("stablelm", {"num_key_value_heads": 2, "use_parallel_residual": True}),
    "stablelm-sequential": ("stablelm", {"num_key_value_heads": 2, "use_qkv_bias": True}),
    "starcoder2": ("starcoder2", {"num_key_value_heads": 2, "sliding_window": 4}),
    "mixtral": ("mixtral", {"num_key_value_heads": 2, "num_local_experts": 4}),
}
"""Decoders whose runs can be packed: name → (model_type, options)."""
_KV: dict[str, object] = {"num_key_value_heads": 2}
_EXPERTS: dict[str, object] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_LATENT: dict[str, object] = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
}
"""Multi-head latent attention: values narrower than keys."""
_ROUTED: dict[str, object] = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 24,
    "n_group": 1,
    "topk_group": 1,
}
_LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.5, 2.0, 4.0, 8.0]}
"""Positions are encoded otherwise in texts of more than the original length."""
MORE: dict[str, tuple[str, dict[str, object]]] = {
    "apertus": ("apertus", GROUPED),
    "arcee": ("arcee", GROUPED),
    "biogpt": ("biogpt", {}),
    "cohere": ("cohere", {**_KV, "logit_scale": 0.5}),
    "cohere2-sliding": ("cohere2", {**_KV, "sliding_window": 4, "logit_scale": 2.0}),
    "cwm-sliding": ("cwm", {**GROUPED, "sliding_window": 4}),
    "dots1": (
        "dots1",
        {**GROUPED, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1},
    ),
    "ernie4_5": ("ernie4_5", GROUPED),
    "exaone4-sliding": ("exaone4", {**_KV, "sliding_window": 4}),
    "exaone_moe": ("exaone_moe", {**GROUPED, **_EXPERTS}),
    "flex_olmo": ("flex_olmo", {**_KV, "num_experts": 4, "num_experts_per_tok": 2}),
    "glm": ("glm", GROUPED),
    "glm4": ("glm4", GROUPED),
    "gpt_bigcode": ("gpt_bigcode", {"multi_query": True, "n_inner": 48}),
    "granite-scaled": ("granite", {**_KV, "logits_scaling": 2.0, "embedding_multiplier": 3.0}),
    "granitemoe": ("granitemoe", {**_KV, "num_local_experts": 4, "logits_scaling": 3.0}),
    "helium": ("helium", GROUPED),
    "hunyuan_v1_dense": ("hunyuan_v1_dense", GROUPED),
    "hy_v3": ("hy_v3", {**GROUPED, **_EXPERTS}),
    "jais2": ("jais2", GROUPED),
    "ministral-sliding": ("ministral", {**GROUPED, "sliding_window": 4}),
    "ministral3": ("ministral3", GROUPED),
    "nanochat": ("nanochat", _KV),
    "nemotron": ("nemotron", GROUPED),
    "olmo3-sliding": ("olmo3", {**_KV, "sliding_window": 4}),
    "olmoe": ("olmoe", {**_KV, "num_experts": 4, "num_experts_per_tok": 2}),
    "phi3-longrope": ("phi3", {**_KV, "original_max_position_embeddings": 7, "rope_scaling": _LONG}),
    "persimmon": ("persimmon", {}),
    "phimoe": ("phimoe", {**_KV, "num_local_experts": 4}),
    "qwen2_moe": ("qwen2_moe", {**_KV, **_EXPERTS, "shared_expert_intermediate_size": 24}),
    "seed_oss": ("seed_oss", GROUPED),
    "afmoe": ("afmoe", {**GROUPED, **_EXPERTS, "num_dense_layers": 1, "sliding_window": 4}),
    "aria_text": ("aria_text", {**GROUPED, "moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1}),
    "axk1": ("axk1", {**_LATENT, **_ROUTED}),
    "bitnet": ("bitnet", GROUPED),
    "cohere2_moe": ("cohere2_moe", {**_KV, **_EXPERTS, "sliding_window": 4, "logit_scale": 0.5}),
    "ctrl": ("ctrl", {"dff": 48}),
    "dbrx": (
        "dbrx",
        {
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 3,
            "max_seq_len": 64,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 0.8, "rope_theta": 10000.0},
            "ffn_config": {"ffn_hidden_size": 24, "moe_top_k": 2, "hidden_size": 32},
        },
    ),
    "deepseek_v2": ("deepseek_v2", {**_LATENT, **_ROUTED, "topk_method": "greedy"}),
    "deepseek_v3": ("deepseek_v3", {**_LATENT, **_ROUTED}),
    "ernie4_5_moe": (
        "ernie4_5_moe",
        {**_KV, "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 24, "moe_num_shared_experts": 1},
    ),
    "flint-sinks": ("flint", {**GROUPED, **_EXPERTS, "sliding_window": 4}),
    "glm4_moe": ("glm4_moe", {**GROUPED, **_ROUTED}),
    "glm4_moe_lite": ("glm4_moe_lite", {**_LATENT, **_ROUTED}),
    "gpt_oss-sinks": ("gpt_oss", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 4}),
    "granite-multiplied": ("granite", {**_KV, "residual_multiplier": 0.22, "attention_multiplier": 0.1}),
    "granitemoe-multiplied": ("granitemoe", {**_KV, "num_local_experts": 4, "residual_multiplier": 0.5}),
    "granite_swa-sinks": ("granite_swa", {**_KV, "sliding_window": 4, "residual_multiplier": 0.3}),
    "hunyuan_v1_moe": ("hunyuan_v1_moe", {**GROUPED, "num_experts": 4, "moe_topk": [2, 2, 2]}),
    "hyperclovax": ("hyperclovax", {**_KV, "residual_multiplier": 0.4, "logits_scaling": 0.5, "use_post_norm": True}),
    "internlm3": ("internlm3", GROUPED),
    "iquestcoder": ("iquestcoder", GROUPED),
    "kolibri1": ("kolibri1", {**GROUPED, **_EXPERTS, "sliding_window": 4}),
    "mellum": ("mellum", {**GROUPED, **_EXPERTS, "sliding_window": 4}),
    "minicpm3": ("minicpm3", {**_LATENT, "scale_depth": 1.4, "dim_model_base": 16}),
    "minimax_m2": ("minimax_m2", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "solar_open": ("solar_open", {**GROUPED, **_ROUTED}),
    "youtu": ("youtu", _LATENT),
    "vaultgemma-sliding": ("vaultgemma", {**GROUPED, "sliding_window": 4}),
}
"""More decoders whose runs can be packed, tried in the matrix alone."""
WHOLE: dict[str, tuple[str, dict[str, object]]] = {
    "bloom-alibi": ("bloom", {"n_layer": 3, "n_head": 4}),
    "falcon-parallel": ("falcon", {"multi_query": True, "parallel_attn": True}),
    "falcon-new": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "codegen": ("codegen", {"rotary_dim": 4, "hidden_size": 64, "num_attention_heads": 8}),
    "gpt_neo-local": ("gpt_neo", {"attention_types": [[["global", "local", "global"], 1]], "window_size": 4}),
    "gptj": ("gptj", {"rotary_dim": 4}),
    "mpt-alibi": ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 3}),
    "xglm": ("xglm", {"ffn_dim": 48}),
    "falcon-alibi-sequential": ("falcon", {"alibi": True, "multi_query": False, "parallel_attn": False}),
}
"""Decoders that attend by their own means."""
_DELTA: dict[str, object] = {
    **GROUPED,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
_MAMBA: dict[str, object] = {
    **_KV,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_chunk_size": 4,
    "mamba_n_groups": 1,
}
_SHARED_EXPERT: dict[str, object] = {**_EXPERTS, "shared_expert_intermediate_size": 24}
_GEMMA4: dict[str, object] = {
    **GROUPED,
    "global_head_dim": 16,
    "num_global_key_value_heads": 1,
    "attention_k_eq_v": True,
    "sliding_window": 4,
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    "hidden_size_per_layer_input": 0,
    "num_kv_shared_layers": 0,
}
HYBRIDS: dict[str, tuple[str, dict[str, object]]] = {
    "qwen3_next": ("qwen3_next", {**_DELTA, **_SHARED_EXPERT}),
    "qwen3_5_text": ("qwen3_5_text", _DELTA),
    "qwen3_5_moe_text": ("qwen3_5_moe_text", {**_DELTA, **_SHARED_EXPERT}),
    "granitemoehybrid": (
        "granitemoehybrid",
        {
            **_MAMBA,
            "num_local_experts": 0,
            "shared_intermediate_size": 48,
            "layer_types": ["mamba", "attention", "mamba"],
            "residual_multiplier": 0.5,
        },
    ),
    "granitemoehybrid-experts": (
        "granitemoehybrid",
        {
            **_MAMBA,
            "num_local_experts": 2,
            "num_experts_per_tok": 2,
            "shared_intermediate_size": 24,
            "layer_types": ["mamba", "attention", "mamba"],
        },
    ),
    "granitemoeshared": (
        "granitemoeshared",
        {**_KV, "num_local_experts": 4, "shared_intermediate_size": 24, "residual_multiplier": 0.5},
    ),
    "granitemoe_swa": (
        "granitemoe_swa",
        {**_KV, "num_local_experts": 4, "shared_intermediate_size": 24, "sliding_window": 4},
    ),
    "bamba": ("bamba", {**_MAMBA, "attn_layer_indices": [1], "head_dim": 8}),
    "jamba": (
        "jamba",
        {
            **_KV,
            "attn_layer_period": 3,
            "attn_layer_offset": 1,
            "num_experts": 2,
            "expert_layer_period": 2,
            "mamba_d_state": 4,
            "use_mamba_kernels": False,
        },
    ),
    "lfm2": ("lfm2", {**_KV, "layer_types": ["conv", "full_attention", "conv"], "block_auto_adjust_ff_dim": False}),
    "lfm2_moe": (
        "lfm2_moe",
        {**_KV, **_EXPERTS, "layer_types": ["conv", "full_attention", "conv"], "num_dense_layers": 1},
    ),
    "llama4_text": (
        "llama4_text",
        {
            **GROUPED,
            "intermediate_size_mlp": 48,
            "num_local_experts": 4,
            "interleave_moe_layer_step": 2,
            "attention_chunk_size": 4,
            "floor_scale": 3,
            "no_rope_layers": [1, 0, 1],
            "attn_temperature_tuning": True,
        },
    ),
    "laguna": (
        "laguna",
        {
            **GROUPED,
            **_EXPERTS,
            "num_attention_heads_per_layer": [4, 2, 4],
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "mlp_layer_types": ["dense", "sparse", "dense"],
        },
    ),
    "mimo_v2_flash": (
        "mimo_v2_flash",
        {
            "num_key_value_heads": 1,
            "head_dim": 8,
            "v_head_dim": 6,
            "sliding_window": 4,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "mlp_layer_types": ["dense", "sparse", "dense"],
        },
    ),
    "deepseek_v32-indexed": (
        "deepseek_v32",
        {**_LATENT, **_ROUTED, "index_topk": 3, "index_n_heads": 2, "index_head_dim": 8},
    ),
    "gemma4_text": ("gemma4_text", _GEMMA4),
    "gemma4_unified_text": ("gemma4_unified_text", _GEMMA4),
    "gemma4_text-moe": (
        "gemma4_text",
        {
            **GROUPED,
            "global_head_dim": 16,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "hidden_size_per_layer_input": 0,
            "num_kv_shared_layers": 0,
            "enable_moe_block": True,
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 24,
        },
    ),
}
_QWEN_EYES = {"depth": 1, "hidden_size": 16, "num_heads": 2, "out_hidden_size": 32}
_EYES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
_ROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}}
TOWERS: dict[str, tuple[str, dict[str, object], tuple[str, dict[str, object]]]] = {
    "gemma3-images": ("gemma3", _EYES, VARIANTS["gemma3"]),
    "gemma4_unified-images": (
        "gemma4_unified",
        {"mm_embed_dim": 16, "mm_posemb_size": 8},
        ("gemma4_unified_text", _GEMMA4),
    ),
    "gemma4-images": ("gemma4", {**_EYES, "head_dim": 8}, HYBRIDS["gemma4_text"]),
    "llama4-images": ("llama4", {**_EYES, "vision_output_dim": 16}, HYBRIDS["llama4_text"]),
    "llava-images": ("llava", _EYES, VARIANTS["llama"]),
    "mistral3-images": ("mistral3", _EYES, ("ministral3", GROUPED)),
    "qwen2_vl-images": (
        "qwen2_vl",
        {**_QWEN_EYES, "hidden_size": 32, "embed_dim": 16},
        ("qwen2_vl_text", {**_KV, **_ROPE}),
    ),
    "qwen2_5_vl-images": ("qwen2_5_vl", _QWEN_EYES, ("qwen2_5_vl_text", {**_KV, **_ROPE})),
    "qwen3_vl-images": ("qwen3_vl", _QWEN_EYES, ("qwen3_vl_text", {**GROUPED, **_ROPE})),
    "qwen3_vl_moe-images": ("qwen3_vl_moe", _QWEN_EYES, ("qwen3_vl_moe_text", {**GROUPED, **_EXPERTS, **_ROPE})),
    "qwen3_5-images": ("qwen3_5", _QWEN_EYES, HYBRIDS["qwen3_5_text"]),
    "qwen3_5_moe-images": ("qwen3_5_moe", _QWEN_EYES, HYBRIDS["qwen3_5_moe_text"]),
}
"""Models that read images too: name → (model_type, options of the vision model, language model)."""
_ENCODER: dict[str, object] = {"num_labels": 3, "type_vocab_size": 1, "attention_probs_dropout_prob": 0.0}
CLASSIFIERS: dict[str, tuple[str, dict[str, object]]] = {
    "bert": ("bert", _ENCODER),
    "roberta": ("roberta", _ENCODER),
    "deberta": ("deberta", {**_ENCODER, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "deberta-v2": (
        "deberta-v2",
        {**_ENCODER, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 4},
    ),
    "modernbert-cls": ("modernbert", {"num_labels": 3, "local_attention": 4, "global_attn_every_n_layers": 2}),
    "modernbert-mean": ("modernbert", {"num_labels": 3, "local_attention": 4, "classifier_pooling": "mean"}),
    "camembert": ("camembert", _ENCODER),
    "distilbert": ("distilbert", {"num_labels": 3, "hidden_dim": 48}),
    "ernie": ("ernie", _ENCODER),
    "xlm-roberta": ("xlm-roberta", _ENCODER),
    "data2vec-text": ("data2vec-text", _ENCODER),
    "electra": ("electra", {**_ENCODER, "embedding_size": 16}),
    "eurobert": ("eurobert", {"num_labels": 3, "num_key_value_heads": 2}),
    "megatron-bert": ("megatron-bert", _ENCODER),
    "mpnet": ("mpnet", {"num_labels": 3}),
    "nomic_bert": ("nomic_bert", {"num_labels": 3}),
    "rembert": ("rembert", {**_ENCODER, "input_embedding_size": 16}),
    "roberta-prelayernorm": ("roberta-prelayernorm", _ENCODER),
    "roformer": ("roformer", {**_ENCODER, "embedding_size": 16}),
    "xlm-roberta-xl": ("xlm-roberta-xl", _ENCODER),
    "llama-classes": ("llama", {**GROUPED, "num_labels": 3}),
    "gpt2-classes": ("gpt2", {"num_labels": 3}),
    "mistral-classes": ("mistral", {**GROUPED, "sliding_window": 4, "num_labels": 3}),
    "qwen3-classes": ("qwen3", {**GROUPED, "num_labels": 3}),
    "qwen3_5-classes": ("qwen3_5_text", {**_DELTA, "num_labels": 3}),
    "gemma2-classes": ("gemma2", {**GROUPED, "num_labels": 3}),
    "bloom-classes": ("bloom", {"n_layer": 3, "n_head": 4, "num_labels": 3}),
}
"""Sequence classifiers: encoders, and decoders with a classification head."""


def tiny(
    variant: str, *, seed: int = 0, tokenizer: PreTrainedTokenizerFast | None = None, vocabulary: int = 101
) -> Subject:
    """A random model whose weights are large enough that patches move the logits by tenths of a nat."""
    torch.manual_seed(seed)
    model = _kind(variant).from_config(config_of(variant, vocabulary=vocabulary))
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("layer_scalar"):
                buffer.fill_(0.7)
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (0.1 if "norm" in name or parameter.ndim == 1 else 0.25))
    return subject_of(model, tokenizer or PreTrainedTokenizerFast(tokenizer_object=_no_tokenizer()))


def config_of(variant: str, *, vocabulary: int) -> PreTrainedConfig:
    if variant not in TOWERS:
        model_type, options = {**VARIANTS, **MORE, **WHOLE, **HYBRIDS, **CLASSIFIERS}[variant]
        return CONFIG_MAPPING[model_type](**{**SHAPE, **options, "vocab_size": vocabulary})
    model_type, eyes, (text, options) = TOWERS[variant]
    language = {**SHAPE, **options, "vocab_size": vocabulary, "model_type": text}
    return CONFIG_MAPPING[model_type](text_config=language, vision_config=eyes)


def _kind(variant: str) -> Any:
    if variant in CLASSIFIERS:
        return AutoModelForSequenceClassification
    return AutoModelForImageTextToText if variant in TOWERS else AutoModelForCausalLM


def _no_tokenizer() -> object:
    return Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
