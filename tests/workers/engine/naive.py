"""Patching as a textbook does it: plain forward hooks on the model as loaded, one whole forward per cell.

Written without any part of the engine but the table of module names.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from workers.engine.families import FAMILIES
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
}
_BERT = {SiteKind.Q: "query", SiteKind.K: "key", SiteKind.V: "value"}


def _module(subject: Subject, exchange: Exchange) -> nn.Module:
    names = FAMILIES[subject.model.config.model_type]
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
    config, names = subject.model.config, _projections(subject)
    queries = config.num_attention_heads
    shared = getattr(config, "num_key_value_heads", None) or queries
    size = getattr(config, "head_dim", None) or config.hidden_size // queries
    order = [SiteKind.Q, SiteKind.K, SiteKind.V]
    first = exchange.head * size
    if len(names) == 1 and exchange.kind in order and config.model_type in {"gpt_neox", "persimmon"}:
        first = (3 * exchange.head + order.index(exchange.kind)) * size
    elif len(names) == 1 and exchange.kind in order:
        first += [0, queries, queries + shared][order.index(exchange.kind)] * size
    return slice(first, first + size)


def _projections(subject: Subject) -> dict[SiteKind, str]:
    """Modules that make queries, keys and values; one for all three where the family fuses them."""
    family = subject.model.config.model_type
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
    if family in {"bert", "camembert", "ernie", "roberta", "xlm-roberta"}:
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
    module = _module(subject, exchange)
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
        return subject.model(torch.tensor([list(ids)])).logits[0, -1].float()


@contextmanager
def _middle(subject: Subject, exchange: Exchange, become: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Change the stream between attention and MLP through what attention adds."""
    seen: list[Tensor] = []
    rows = list(exchange.recipient)

    def see(x: Tensor) -> Tensor:
        seen.append(x.view(-1, x.shape[-1])[rows])
        return x

    def add(x: Tensor) -> Tensor:
        x = x.clone()
        flat = x.view(-1, x.shape[-1])
        flat[rows] = become(flat[rows] + seen[-1]) - seen[-1]
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


@torch.no_grad()
def pattern_z(subject: Subject, recipient_ids: Sequence[int], donor_ids: Sequence[int], exchange: Exchange) -> Tensor:
    """The head's output when the donor's attention pattern, as transformers reports it, reads the recipient's v."""
    config = subject.model.config
    assert exchange.head is not None
    shared = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    group = exchange.head // (config.num_attention_heads // shared)
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
        pre, added = exchange._replace(kind=SiteKind.RESID_PRE), exchange._replace(kind=SiteKind.ATTN_OUT)
        middle = activation(subject, donor_ids, pre) + activation(subject, donor_ids, added)
        values = middle - activation(subject, recipient_ids, pre._replace(donor=exchange.recipient))
        exchange = added
    elif exchange.kind is SiteKind.PATTERN:
        values = pattern_z(subject, recipient_ids, donor_ids, exchange)
        exchange = exchange._replace(kind=SiteKind.Z)
    else:
        values = activation(subject, donor_ids, exchange)
    if len(labels.beginnings) > 1:
        return whole_decision(subject, recipient_ids, labels, [(exchange, values)])
    return decision(logits(subject, recipient_ids, [(exchange, values)]), *labels)
