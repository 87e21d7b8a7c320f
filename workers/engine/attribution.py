"""Attribution patching: first-order estimates of all effects from one backward pass, always followed by exact ones.

An estimate is never an effect: it says where to look. ``screen`` looks: the sites with the largest estimates are
patched exactly, together with a random sample of the rest, which bounds how many were overlooked. Nanda 2023; Kramár et
al. 2024 (AtP*, arXiv 2403.00745). Sites inside attention are left out: their first-order estimates fail where attention
is saturated (section 3.1 there).
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import hypergeom
from torch import Tensor, nn

from audit_service.domain.labels import LabelTokens
from audit_service.errors import InvalidTrace
from workers.engine.answers import unpatched
from workers.engine.donors import Recording
from workers.engine.flight import Stage
from workers.engine.heads import INSIDE
from workers.engine.patching import patch
from workers.engine.placing import STAGES, check, kept_of, layer_of
from workers.engine.positions import Exchange
from workers.engine.progress import Progress, StopCheck, never_stop, no_progress
from workers.engine.subject import Subject

Arguments = tuple[Any, ...]


class Screened(NamedTuple):
    """Estimates of all effects, and exact effects of those that were verified; in nats."""

    estimated: NDArray[np.float32]
    """[exchange] first-order estimate."""
    verified: NDArray[np.intp]
    """Numbers of the exchanges that were patched exactly: first those with the largest estimates, then the sample."""
    exact: NDArray[np.float32]
    """[verified] measured effect."""
    sampled: int
    """How many of the verified ones, at the end, are the random sample of the rest."""
    missed_at_most: int
    """Upper confidence bound on how many exchanges with an effect of at least the threshold were left unpatched."""


def attribute(
    subject: Subject, recipient: Recording, donor: Recording, exchanges: Sequence[Exchange], *, labels: LabelTokens
) -> NDArray[np.float32]:
    """Estimate [exchange] of d_patched - d_recipient: (donor - recipient activation) x gradient of d, in nats.

    Raises InvalidTrace for sites inside attention, whose first-order estimates are known to fail, and for labels of
    several tokens.
    """
    if len(labels.beginnings) > 1:
        raise InvalidTrace(
            "first-order estimates are made for labels of one token each",
            remedy="declare such labels, or patch all sites exactly",
        )
    for exchange in exchanges:
        check(subject.anatomy, exchange)
        if exchange.kind in INSIDE:
            raise InvalidTrace(
                f"{exchange.kind} cannot be screened by a first-order estimate", remedy="screen z, or patch it exactly"
            )
    gradients = _gradients(subject, recipient, labels)
    return np.array([_estimate(subject, gradients, e, recipient, donor) for e in exchanges], dtype=np.float32)


def screen(
    subject: Subject,
    recipient: Recording,
    donor: Recording,
    exchanges: Sequence[Exchange],
    *,
    labels: LabelTokens,
    top: int,
    sample: int,
    threshold: float,
    seed: int,
    alpha: float = 0.05,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> Screened:
    """Estimate all effects, patch the ``top`` ones and ``sample`` of the others exactly, and bound what was missed.

    ``threshold`` (nats) says what would have been worth finding; the bound has confidence 1 - alpha over the seeds.
    """
    estimated = attribute(subject, recipient, donor, exchanges, labels=labels)
    order = np.argsort(-np.abs(estimated), kind="stable")
    rest = order[top:]
    drawn = np.random.default_rng(seed).choice(rest, size=min(sample, len(rest)), replace=False)
    verified = np.concatenate([order[:top], np.sort(drawn)])
    chosen = [exchanges[number] for number in verified]
    patched = patch(subject, recipient, donor, chosen, labels=labels, progress=progress, should_stop=should_stop)
    exact = patched - float(unpatched(subject, [recipient], labels))
    seen = int((np.abs(exact[top:]) >= threshold).sum())
    missed = largest_count(total=len(rest), drawn=len(drawn), seen=seen, alpha=alpha) - seen
    return Screened(estimated, verified, exact.astype(np.float32), len(drawn), missed)


def largest_count(*, total: int, drawn: int, seen: int, alpha: float) -> int:
    """Exact one-sided confidence bound on how many of ``total`` are marked, when ``seen`` of ``drawn`` are.

    The largest count under which seeing at most that many has a probability above alpha (hypergeometric).
    """
    counts = np.arange(seen, total - (drawn - seen) + 1)
    return int(counts[hypergeom.cdf(seen, total, counts, drawn) > alpha].max())


def _estimate(
    subject: Subject,
    gradients: dict[Stage, list[Tensor]],
    exchange: Exchange,
    recipient: Recording,
    donor: Recording,
) -> float:
    stage, layer = STAGES[exchange.kind], layer_of(exchange)
    to, by = list(exchange.recipient), list(exchange.donor)
    change = (kept_of(donor, stage)[layer][by] - kept_of(recipient, stage)[layer][to]).float()
    products = change * gradients[stage][layer][to].float()
    if exchange.head is not None:
        products = products.view(len(to), subject.anatomy.heads, -1)[:, exchange.head]
    return float(products.sum())


def _gradients(subject: Subject, recipient: Recording, labels: LabelTokens) -> dict[Stage, list[Tensor]]:
    """Gradient of d [layer][position, width] at each stage, from a run of the plain model."""
    kept: dict[Stage, list[Tensor]] = {stage: [] for stage in Stage}
    anatomy = subject.anatomy
    with ExitStack() as stack, torch.enable_grad():
        for block in anatomy.blocks:
            stack.callback(block.layer.register_forward_pre_hook(_leaf(kept[Stage.RESID])).remove)
            stack.callback(block.out_proj.register_forward_pre_hook(_input(kept[Stage.Z])).remove)
            stack.callback(block.attn_add.register_forward_hook(_output(kept[Stage.ATTN_OUT])).remove)
            stack.callback(block.mlp_add.register_forward_hook(_output(kept[Stage.MLP_OUT])).remove)
        if anatomy.final_norm is None:
            raise InvalidTrace(
                f"effects in {anatomy.family} classifiers are not estimated", remedy="patch all sites exactly"
            )
        stack.callback(anatomy.final_norm.register_forward_pre_hook(_input(kept[Stage.RESID])).remove)
        ids = torch.tensor([recipient.entry.ids], device=subject.device)
        rows = subject.model(input_ids=ids, use_cache=False).logits.flatten(0, -2)[-1].float()
        split = len(labels.favorable)
        d = rows[list(labels.firsts[:split])].logsumexp(0) - rows[list(labels.firsts[split:])].logsumexp(0)
        flat = [tensor for tensors in kept.values() for tensor in tensors]
        found = iter(torch.autograd.grad(d, flat))
    return {stage: [next(found).flatten(0, -2) for _ in tensors] for stage, tensors in kept.items()}


def _leaf(kept: list[Tensor]) -> Callable[[nn.Module, Arguments], Arguments]:
    """Keep a layer's input; the first layer's begins the graph, since no weight asks for a gradient."""

    def hook(_: nn.Module, arguments: Arguments) -> Arguments:
        stream = arguments[0] if arguments[0].requires_grad else arguments[0].detach().requires_grad_()
        kept.append(stream)
        return (stream, *arguments[1:])

    return hook


def _input(kept: list[Tensor]) -> Callable[[nn.Module, Arguments], None]:
    return lambda _, arguments: kept.append(arguments[0])


def _output(kept: list[Tensor]) -> Callable[[nn.Module, Arguments, Tensor], None]:
    return lambda _, __, output: kept.append(output)
