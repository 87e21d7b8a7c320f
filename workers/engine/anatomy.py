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
    heads: int
    """None in a layer that mixes positions by a module without heads."""
    kv_heads: int
    multiplier: float = 1.0
    """What the outputs of attention and MLP are multiplied with as they are added to the residual stream."""
    mlp_beside: nn.Module | None = None
    """A module beside the MLP, called before it, whose output the layer adds to the MLP's."""
    scale: float = 1.0
    """What the whole residual stream is multiplied with at the layer's end."""


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

    @property
    def heads(self) -> int:
        """The most that a layer has."""
        return max(block.heads for block in self.blocks)

    @property
    def kv_heads(self) -> int:
        """The most that a layer has."""
        return max(block.kv_heads for block in self.blocks)


def anatomy_of(model: PreTrainedModel) -> Anatomy:
    """Find the parts of a language model or classifier; InvalidModel if its family or variant is not proven."""
    config = model.config.get_text_config()
    names = family_names(model.config)
    classifies = type(model).__name__.endswith("ForSequenceClassification")
    _refuse_variants(model, names, classifies=classifies)
    get = model.get_submodule
    head = None if names.norm is None else _head(model, classifies=classifies)
    return Anatomy(
        family=model.config.model_type,
        blocks=tuple(_block(layer, names, config) for layer in get(names.layers).children()),
        flow=names.flow,
        gives_pair=names.gives_pair,
        classifies=classifies,
        final_norm=None if names.norm is None else get(names.norm),
        unembedding=head,
        width=config.hidden_size,
        vocabulary=int(config.num_labels or 0) if head is None else head.out_features,
        context=None if getattr(config, "alibi", config.model_type in {"bloom", "mpt"}) else _context(model),
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


def _context(model: PreTrainedModel) -> int | None:
    longest: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    tables = (part for name, part in model.named_modules() if name.endswith("embeddings.position_embeddings"))
    padding = getattr(next(tables, None), "padding_idx", None)
    # RoBERTa and its kin count positions from behind the padding token's.
    return longest if longest is None or padding is None else longest - padding - 1


def _logit_scale(config: PreTrainedConfig) -> float:
    """Cohere multiplies its logits by logit_scale, Granite divides them by logits_scaling, HyperCLOVA X multiplies."""
    scale = float(getattr(config, "logit_scale", None) or 1.0)  # MPT and others know the name, but have no number there
    scaling = float(getattr(config, "logits_scaling", None) or 1.0)
    return scale * scaling if config.model_type == "hyperclovax" else scale / scaling


def _is_parallel(config: PreTrainedConfig) -> bool:
    falcon = config.model_type == "falcon" and (config.parallel_attn or config.new_decoder_architecture)
    return bool(falcon or getattr(config, "use_parallel_residual", False))


def _block(layer: nn.Module, names: Names, config: PreTrainedConfig) -> Block:
    mixer = next((name for name in names.mixers if getattr(layer, name, None) is not None), None)
    if mixer is not None:
        names = names._replace(attention=mixer, out_proj=f"{mixer}.out_proj", attn_add=f"{mixer}.out_proj")
    parts = (names.attention, names.out_proj, names.attn_add, names.mlp_in, names.mlp_out, names.mlp_add)
    multiplier = getattr(layer, "residual_multiplier", getattr(layer, "residual_scale", 1.0))
    found = [layer.get_submodule(part) for part in parts]
    heads, kv_heads = (0, 0) if mixer else _heads(found[0], config)
    return Block(
        layer,
        *found,
        heads=heads,
        kv_heads=kv_heads,
        multiplier=float(multiplier),
        mlp_beside=None if names.mlp_beside is None else getattr(layer, names.mlp_beside),
        scale=_scale(layer),
    )


def _heads(attention: nn.Module, config: PreTrainedConfig) -> tuple[int, int]:
    """Heads of queries, and of keys and values: a layer may have its own numbers of them."""
    heads = int(getattr(attention, "num_heads", config.num_attention_heads))
    if (groups := getattr(attention, "num_key_value_groups", None)) is not None:
        return heads, heads // int(groups)
    return heads, getattr(config, "num_key_value_heads", None) or heads


def _scale(layer: nn.Module) -> float:
    """Gemma 4 multiplies the whole stream at each layer's end; shapes alone tell no number."""
    scalar = getattr(layer, "layer_scalar", None)
    return 1.0 if scalar is None or scalar.is_meta else float(scalar)


def _refuse_variants(model: PreTrainedModel, names: Names, *, classifies: bool) -> None:
    """Refuse configurations of a proven family that compute something else than the proven ones."""
    config = model.config.get_text_config()
    variants = {
        "do_layer_norm_before=False": getattr(config, "do_layer_norm_before", True) is False,
        "word_embed_proj_dim": getattr(config, "word_embed_proj_dim", config.hidden_size) != config.hidden_size,
        "add_cross_attention": bool(getattr(config, "add_cross_attention", False)),
        "reorder_and_upcast_attn": bool(getattr(config, "reorder_and_upcast_attn", False)),
        "use_bidirectional_attention": getattr(config, "use_bidirectional_attention", False) in {True, "all"},
        "num_kv_shared_layers": getattr(config, "num_kv_shared_layers", 0) > 0,
        "shared_intermediate_size=0": getattr(config, "shared_intermediate_size", None) == 0,
        "hidden_size_per_layer_input": getattr(config, "hidden_size_per_layer_input", 0) > 0,
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
