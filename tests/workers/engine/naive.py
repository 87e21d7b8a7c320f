"""Patching as a textbook does it: plain forward hooks on the model as loaded, one whole forward per cell.

Written without any part of the engine but the table of module names.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from workers.engine.anatomy import FAMILIES
from workers.engine.loading import Subject
from workers.engine.positions import Exchange


def _module(subject: Subject, exchange: Exchange) -> nn.Module:
    names = FAMILIES[subject.model.config.model_type]
    layer = subject.model.get_submodule(f"{names.layers}.{exchange.layer}")
    if exchange.kind in {SiteKind.RESID_PRE, SiteKind.RESID_POST}:
        return layer
    return layer.get_submodule(
        {SiteKind.Z: names.out_proj, SiteKind.ATTN_OUT: names.attn_add, SiteKind.MLP_OUT: names.mlp_add}[exchange.kind]
    )


def _columns(subject: Subject, exchange: Exchange, width: int) -> slice:
    if exchange.head is None:
        return slice(0, width)
    head = width // subject.model.config.num_attention_heads
    return slice(exchange.head * head, (exchange.head + 1) * head)


@contextmanager
def _at(subject: Subject, exchange: Exchange, act: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let act see, and change in place, the site's [position, width] activation."""
    module = _module(subject, exchange)
    if exchange.kind in {SiteKind.RESID_PRE, SiteKind.Z}:
        hook = module.register_forward_pre_hook(lambda _, args: (act(args[0]), *args[1:]))
    else:
        hook = module.register_forward_hook(lambda _, __, out: act(out))
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def logits(subject: Subject, ids: Sequence[int], patches: Sequence[tuple[Exchange, Tensor]] = ()) -> Tensor:
    with ExitStack() as stack:
        for exchange, values in patches:

            def put(x: Tensor, exchange: Exchange = exchange, values: Tensor = values) -> Tensor:
                x = x.clone()
                flat = x.view(-1, x.shape[-1])
                flat[list(exchange.recipient), _columns(subject, exchange, x.shape[-1])] = values
                return x

            stack.enter_context(_at(subject, exchange, put))
        return subject.model(torch.tensor([list(ids)])).logits[0, -1].float()


@torch.no_grad()
def activation(subject: Subject, ids: Sequence[int], exchange: Exchange) -> Tensor:
    kept = []

    def keep(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        kept.append(flat[list(exchange.donor), _columns(subject, exchange, x.shape[-1])].clone())
        return x

    with _at(subject, exchange, keep):
        subject.model(torch.tensor([list(ids)]))
    return kept[0]


def decision(logits_: Tensor, favorable: Sequence[int], unfavorable: Sequence[int]) -> float:
    return float(logits_[list(favorable)].logsumexp(0) - logits_[list(unfavorable)].logsumexp(0))


def patched_decision(
    subject: Subject, recipient_ids: Sequence[int], donor_ids: Sequence[int], exchange: Exchange, labels: LabelTokens
) -> float:
    if exchange.kind is SiteKind.RESID_MID:
        # No module hands the middle of the stream on, so attention's share is chosen to make the wanted sum.
        pre, added = exchange._replace(kind=SiteKind.RESID_PRE), exchange._replace(kind=SiteKind.ATTN_OUT)
        middle = activation(subject, donor_ids, pre) + activation(subject, donor_ids, added)
        values = middle - activation(subject, recipient_ids, pre._replace(donor=exchange.recipient))
        exchange = added
    else:
        values = activation(subject, donor_ids, exchange)
    return decision(logits(subject, recipient_ids, [(exchange, values)]), labels.favorable, labels.unfavorable)
