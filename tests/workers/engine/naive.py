"""Patching as a textbook does it: plain forward hooks on the model as loaded, one whole forward per cell.

Written without any part of the engine but the table of module names.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.gpt_oss import modeling_gpt_oss as gpt_oss
from transformers.models.granite_swa import modeling_granite_swa as granite_swa
from transformers.models.granitemoe_swa import modeling_granitemoe_swa as granitemoe_swa

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from workers.engine.families import Names, family_names
from workers.engine.heads import INSIDE
from workers.engine.loading import Subject
from workers.engine.positions import Exchange

NEURONS_READ_BY = {
    "mlp.down_proj",
    "mlp.c_proj",
    "mlp.dense_4h_to_h",
    "mlp.fc2",
    "fc2",
    "mlp.Wo",
    "output.dense",
    "ffn.lin2",
    "ffn.down_proj",
    "mlp.fc_out",
    "ffn.2",
    "feed_forward.down_proj",
    "feed_forward.w2",
    "shared_mlp.output_linear",
}
BY_INTERFACE = {
    *("afmoe", "aria_text", "axk1", "bitnet", "cohere2_moe", "ctrl", "dbrx", "deepseek_v2", "gemma4_text", "laguna"),
    *("deepseek_v3", "ernie4_5_moe", "flint", "glm4_moe", "glm4_moe_lite", "gpt_oss", "granite_swa", "hunyuan_v1_moe"),
    *("hyperclovax", "internlm3", "iquestcoder", "kolibri1", "mellum", "minicpm3", "minimax_m2", "solar_open", "youtu"),
    *("gemma4_unified_text", "granitemoe_swa", "mimo_v2_flash"),
}
"""Families whose heads are read where transformers' own attention function receives them."""
UNEVEN = {"gemma4_text", "gemma4_unified_text", "laguna", "mimo_v2_flash"}
"""Families whose layers have different numbers of heads."""
LIKE_BERT = {
    *("bert", "camembert", "data2vec-text", "electra", "ernie", "roberta", "roberta-prelayernorm", "xlm-roberta"),
    "xlm-roberta-xl",
}
_BERT = {SiteKind.Q: "query", SiteKind.K: "key", SiteKind.V: "value"}


def names_of(subject: Subject, layer: int) -> Names:
    """Where the parts of one layer are, which may have something else in place of attention."""
    names = family_names(subject.model.config)
    there = subject.model.get_submodule(f"{names.layers}.{layer}")
    for mixer in names.mixers:
        if getattr(there, mixer, None) is not None:
            return names._replace(attn_add=f"{mixer}.out_proj")
    return names


def _module(subject: Subject, exchange: Exchange) -> nn.Module:
    names = names_of(subject, exchange.layer)
    layer = subject.model.get_submodule(f"{names.layers}.{exchange.layer}")
    if exchange.kind in {SiteKind.RESID_PRE, SiteKind.RESID_POST}:
        return layer
    if exchange.kind in {SiteKind.Q, SiteKind.K, SiteKind.V}:
        projections = _projections(subject)
        return layer.get_submodule(projections.get(exchange.kind, projections[SiteKind.Q]))
    if exchange.kind is SiteKind.NEURONS:
        return next(module for name, module in layer.named_modules() if name in NEURONS_READ_BY)
    return layer.get_submodule(
        {SiteKind.Z: names.out_proj, SiteKind.ATTN_OUT: names.attn_add, SiteKind.MLP_OUT: names.mlp_add}[exchange.kind]
    )


def _columns(subject: Subject, exchange: Exchange, width: int) -> slice:
    """Columns of a head in the output of the module that makes it, or in the input of the one that reads it."""
    if exchange.head is None:
        return slice(0, width)
    config, names = subject.model.config.get_text_config(), _projections(subject)
    queries, shared = _counts(subject, exchange.layer)
    if exchange.kind in {SiteKind.Z, SiteKind.PATTERN} or not names:
        size = width // (shared if exchange.kind in {SiteKind.K, SiteKind.V} else queries)
    else:
        size = getattr(config, "head_dim", None) or config.hidden_size // queries
    order = [SiteKind.Q, SiteKind.K, SiteKind.V]
    first = exchange.head * size
    if len(names) == 1 and exchange.kind in order and config.model_type in {"gpt_neox", "persimmon"}:
        first = (3 * exchange.head + order.index(exchange.kind)) * size
    elif len(names) == 1 and exchange.kind in order:
        first += [0, queries, queries + shared][order.index(exchange.kind)] * size
    return slice(first, first + size)


def _counts(subject: Subject, layer: int) -> tuple[int, int]:
    """Heads of queries, and of keys and values, in one layer."""
    config = subject.model.config.get_text_config()
    if config.model_type in UNEVEN:
        attention = subject.model.get_submodule(f"{names_of(subject, layer).layers}.{layer}.self_attn")
        queries, shared = (attention.get_submodule(f"{name}_proj").out_features for name in "qk")
        return queries // attention.head_dim, shared // attention.head_dim
    return config.num_attention_heads, getattr(config, "num_key_value_heads", None) or config.num_attention_heads


def _projections(subject: Subject) -> dict[SiteKind, str]:
    """Modules that make queries, keys and values; one for all three where the family fuses them; none by interface."""
    family = subject.model.config.get_text_config().model_type
    if family in BY_INTERFACE:
        return {}
    fused = {
        "gpt2": "attn.c_attn",
        "gpt_bigcode": "attn.c_attn",
        "gpt_neox": "attention.query_key_value",
        "modernbert": "attn.Wqkv",
        "persimmon": "self_attn.query_key_value",
        "phi3": "self_attn.qkv_proj",
    }
    if name := fused.get(family):
        return {SiteKind.Q: name}
    if family in LIKE_BERT:
        return {kind: f"attention.self.{name}" for kind, name in _BERT.items()}
    if family == "distilbert":
        return {kind: f"attention.{kind}_lin" for kind in (SiteKind.Q, SiteKind.K, SiteKind.V)}
    made = {kind: f"self_attn.{kind}_proj" for kind in (SiteKind.Q, SiteKind.K, SiteKind.V)}
    if family in {"flex_olmo", "olmo2", "olmo3", "olmoe"}:  # their norm runs over all heads: a head is made behind it
        made |= {SiteKind.Q: "self_attn.q_norm", SiteKind.K: "self_attn.k_norm"}
    return made


@contextmanager
def _at(subject: Subject, exchange: Exchange, act: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let act see, and change in place, the site's [position, width] activation."""
    if exchange.kind in INSIDE and not _projections(subject):
        with inside(subject, exchange, act):
            yield
        return
    module = _module(subject, exchange)
    beside = names_of(subject, exchange.layer).mlp_beside
    first = None if beside is None else getattr(_module(subject, exchange._replace(kind=SiteKind.RESID_PRE)), beside)
    if exchange.kind is SiteKind.MLP_OUT and first is not None:
        with _sum(first, module, act):
            yield
        return
    if exchange.kind in {SiteKind.RESID_PRE, SiteKind.Z, SiteKind.NEURONS}:
        hook = module.register_forward_pre_hook(lambda _, args: (act(args[0]), *args[1:]))
    else:
        hook = module.register_forward_hook(
            lambda _, __, out: (act(out[0]), *out[1:]) if isinstance(out, tuple) else act(out)
        )
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _sum(first: nn.Module, last: nn.Module, act: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let act see, and change, the sum of two modules' outputs: the last one gives what then is missing."""
    other: list[Tensor] = []
    hooks = [
        first.register_forward_hook(lambda _, __, out: other.append(out)),
        last.register_forward_hook(lambda _, __, out: act(other[-1] + out) - other[-1]),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def inside(subject: Subject, exchange: Exchange, act: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let act change what one layer hands to transformers' plain attention, or the pattern that comes out of it."""
    names, model = names_of(subject, exchange.layer), subject.model
    asked = model.get_submodule(f"{names.layers}.{exchange.layer}.{names.attention}")
    home, before = sys.modules[type(asked).__module__], model.config._attn_implementation
    own = home.eager_attention_forward
    # Its own gives the pattern before the sinks take their share; the other computes the same and gives it after.
    plain = (
        gpt_oss.eager_attention_forward if own.__module__ in {granite_swa.__name__, granitemoe_swa.__name__} else own
    )

    def attend(module: nn.Module, *heads: Tensor, **more: Any) -> tuple[Tensor, Tensor]:
        given, place = list(heads), [SiteKind.Q, SiteKind.K, SiteKind.V, SiteKind.PATTERN].index(exchange.kind)
        if module is asked and place < 3:
            given[place] = _side_by_side(act, given[place])
        out, pattern = plain(module, *given, **more)
        if module is asked and exchange.kind is SiteKind.PATTERN:
            pattern = _side_by_side(act, pattern)
            out = (pattern @ given[2].repeat_interleave(pattern.shape[1] // given[2].shape[1], 1)).transpose(1, 2)
        return out.contiguous(), pattern

    model.set_attn_implementation("eager")
    home.eager_attention_forward = attend  # type: ignore[attr-defined]  # each family's module has one
    try:
        yield
    finally:
        home.eager_attention_forward = own  # type: ignore[attr-defined]  # each family's module has one
        model.set_attn_implementation(before)


def _side_by_side(act: Callable[[Tensor], Tensor], heads: Tensor) -> Tensor:
    """Let act see [head, position, width] as [position, heads' widths]."""
    changed = act(heads.transpose(1, 2).flatten(2))
    return changed.unflatten(2, (heads.shape[1], -1)).transpose(1, 2)


def logits(subject: Subject, ids: Sequence[int], patches: Sequence[tuple[Exchange, Tensor]] = ()) -> Tensor:
    return all_logits(subject, ids, patches)[-1]


@torch.no_grad()
def all_logits(subject: Subject, ids: Sequence[int], patches: Sequence[tuple[Exchange, Tensor]] = ()) -> Tensor:
    with ExitStack() as stack:
        for exchange, values in patches:

            def put(x: Tensor, exchange: Exchange = exchange, values: Tensor = values) -> Tensor:
                x = x.clone()
                flat = x.view(-1, x.shape[-1])
                flat[list(exchange.recipient), _columns(subject, exchange, x.shape[-1])] = values
                return x

            stack.enter_context(_at(subject, exchange, put))
        return subject.model(torch.tensor([list(ids)])).logits.flatten(0, -2).float()


@torch.no_grad()
def changed_logits(
    subject: Subject, ids: Sequence[int], changes: Sequence[tuple[Exchange, Callable[[Tensor], Tensor]]]
) -> Tensor:
    """Logits of a run in which the rows of some sites become a function of themselves."""
    with ExitStack() as stack:
        for exchange, become in changes:
            rows = list(exchange.recipient)
            if exchange.kind is SiteKind.RESID_MID:
                stack.enter_context(_middle(subject, exchange, become))
                continue

            def change(x: Tensor, exchange: Exchange = exchange, become: Any = become, rows: Any = rows) -> Tensor:
                x = x.clone()
                flat, columns = x.view(-1, x.shape[-1]), _columns(subject, exchange, x.shape[-1])
                flat[rows, columns] = become(flat[rows, columns])
                return x

            stack.enter_context(_at(subject, exchange, change))
        return subject.model(torch.tensor([list(ids)])).logits.flatten(0, -2)[-1].float()


def multiplier_of(subject: Subject) -> float:
    """What attention's output is multiplied with before it is added to the stream."""
    config = subject.model.config.get_text_config()
    if config.model_type == "minicpm3":
        return float(config.scale_depth / config.num_hidden_layers**0.5)
    return float(getattr(config, "residual_multiplier", 1.0))


@contextmanager
def _middle(subject: Subject, exchange: Exchange, become: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Change the stream between attention and MLP through what attention adds."""
    seen: list[Tensor] = []
    rows, multiplier = list(exchange.recipient), multiplier_of(subject)

    def see(x: Tensor) -> Tensor:
        seen.append(x.view(-1, x.shape[-1])[rows])
        return x

    def add(x: Tensor) -> Tensor:
        x = x.clone()
        flat = x.view(-1, x.shape[-1])
        flat[rows] = (become(multiplier * flat[rows] + seen[-1]) - seen[-1]) / multiplier
        return x

    before, added = (exchange._replace(kind=kind) for kind in (SiteKind.RESID_PRE, SiteKind.ATTN_OUT))
    with _at(subject, before, see), _at(subject, added, add):
        yield


@torch.no_grad()
def batched_logits(subject: Subject, ids: Sequence[int], cells: Sequence[tuple[Exchange, Tensor]]) -> Tensor:
    """Logits [cell, token] of one forward in which each row of the batch is one patched run.

    A cell's values are the donor's whole [position, width] activation of the site's module.
    """
    with ExitStack() as stack:
        for row, (exchange, values) in enumerate(cells):

            def put(x: Tensor, row: int = row, exchange: Exchange = exchange, values: Tensor = values) -> Tensor:
                x = x.clone()
                columns = _columns(subject, exchange, x.shape[-1])
                x.view(len(cells), len(ids), -1)[row, list(exchange.recipient), columns] = values[
                    list(exchange.donor), columns
                ]
                return x

            stack.enter_context(_at(subject, exchange, put))
        return subject.model(torch.tensor([list(ids)] * len(cells))).logits[:, -1].float()


@torch.no_grad()
def activation(
    subject: Subject, ids: Sequence[int], exchange: Exchange, patches: Sequence[tuple[Exchange, Tensor]] = ()
) -> Tensor:
    """The donor rows of a site, in a run that may itself be patched."""
    kept = []

    def keep(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        kept.append(flat[list(exchange.donor), _columns(subject, exchange, x.shape[-1])].clone())
        return x

    with _at(subject, exchange, keep):
        logits(subject, ids, patches)
    return kept[0]


def middle(subject: Subject, ids: Sequence[int], exchange: Exchange) -> Tensor:
    """The donor rows of the stream between attention and MLP."""
    before, added = (exchange._replace(kind=kind) for kind in (SiteKind.RESID_PRE, SiteKind.ATTN_OUT))
    return activation(subject, ids, before) + multiplier_of(subject) * activation(subject, ids, added)


@torch.no_grad()
def pattern_z(subject: Subject, recipient_ids: Sequence[int], donor_ids: Sequence[int], exchange: Exchange) -> Tensor:
    """The head's output when the donor's attention pattern, as transformers reports it, reads the recipient's v."""
    config = subject.model.config.get_text_config()
    assert exchange.head is not None
    queries, shared = _counts(subject, exchange.layer)
    group = exchange.head // (queries // shared)
    everywhere = tuple(range(len(recipient_ids)))
    read = Exchange(SiteKind.V, exchange.layer, group, everywhere, everywhere)
    values = activation(subject, recipient_ids, read)
    if clip := getattr(config, "clip_qkv", None):  # behind the projection that the hook reads
        values = values.clamp(-clip, clip)
    before = config._attn_implementation
    subject.model.set_attn_implementation("eager")
    patterns = subject.model(torch.tensor([list(donor_ids)]), output_attentions=True).attentions
    subject.model.set_attn_implementation(before)
    return patterns[exchange.layer][0, exchange.head, list(exchange.donor)] @ values


def decision(logits_: Tensor, favorable: Sequence[tuple[int, ...]], unfavorable: Sequence[tuple[int, ...]]) -> float:
    """d of labels of one token each, from the logits behind the prompt."""
    one, other = ([token for (token,) in side] for side in (favorable, unfavorable))
    return float(logits_[one].logsumexp(0) - logits_[other].logsumexp(0))


@torch.no_grad()
def label_log_p(
    subject: Subject, ids: Sequence[int], label: Sequence[int], patches: Sequence[tuple[Exchange, Tensor]] = ()
) -> Tensor:
    """Log-probability of a whole label behind the prompt, from one plain forward over both."""
    rows = all_logits(subject, [*ids, *label[:-1]], patches)[len(ids) - 1 :].log_softmax(-1)
    return rows[range(len(label)), list(label)].sum()


def whole_decision(
    subject: Subject, ids: Sequence[int], labels: LabelTokens, patches: Sequence[tuple[Exchange, Tensor]] = ()
) -> float:
    """d of labels of any length, one plain forward for each label."""
    sides = [torch.stack([label_log_p(subject, ids, label, patches) for label in side]) for side in labels]
    return float(sides[0].logsumexp(0) - sides[1].logsumexp(0))


def patched_decision(
    subject: Subject, recipient_ids: Sequence[int], donor_ids: Sequence[int], exchange: Exchange, labels: LabelTokens
) -> float:
    if exchange.kind is SiteKind.RESID_MID:
        # No module hands the middle of the stream on, so attention's share is chosen to make the wanted sum.
        own = activation(subject, recipient_ids, exchange._replace(kind=SiteKind.RESID_PRE, donor=exchange.recipient))
        values = (middle(subject, donor_ids, exchange) - own) / multiplier_of(subject)
        exchange = exchange._replace(kind=SiteKind.ATTN_OUT)
    elif exchange.kind is SiteKind.PATTERN and _projections(subject):
        values = pattern_z(subject, recipient_ids, donor_ids, exchange)
        exchange = exchange._replace(kind=SiteKind.Z)
    else:
        values = activation(subject, donor_ids, exchange)
    if len(labels.beginnings) > 1:
        return whole_decision(subject, recipient_ids, labels, [(exchange, values)])
    return decision(logits(subject, recipient_ids, [(exchange, values)]), *labels)
