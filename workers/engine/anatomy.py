"""Where the parts of a loaded Hugging Face transformer are."""

from dataclasses import KW_ONLY, dataclass

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from audit_service.errors import InvalidModel
from workers.engine.families import Flow, Names, family_names


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
    _: KW_ONLY
    multiplier: float = 1.0
    """What the outputs of attention and MLP are multiplied with as they are added to the residual stream."""


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
    gated: bool
    """Something stands between attention and z, so z is not pattern times values."""

    @property
    def layers(self) -> int:
        return len(self.blocks)


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
        gated=names.gated,
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
    """Cohere multiplies its logits by logit_scale, Granite divides them by logits_scaling, HyperCLOVA X multiplies."""
    scale = float(getattr(config, "logit_scale", None) or 1.0)  # MPT and others know the name, but have no number there
    scaling = float(getattr(config, "logits_scaling", None) or 1.0)
    return scale * scaling if config.model_type == "hyperclovax" else scale / scaling


def _is_parallel(config: PreTrainedConfig) -> bool:
    falcon = config.model_type == "falcon" and (config.parallel_attn or config.new_decoder_architecture)
    return bool(falcon or getattr(config, "use_parallel_residual", False))


def _block(layer: nn.Module, names: Names) -> Block:
    parts = (names.attention, names.out_proj, names.attn_add, names.mlp_in, names.mlp_out, names.mlp_add)
    multiplier = getattr(layer, "residual_multiplier", getattr(layer, "residual_scale", 1.0))
    return Block(layer, *(layer.get_submodule(part) for part in parts), multiplier=float(multiplier))


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
