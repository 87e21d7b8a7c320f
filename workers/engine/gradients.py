"""Gradients of the decision value by activations, from runs of the plain model."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audit_service.domain.labels import LabelTokens
from audit_service.errors import InvalidTrace
from workers.engine.donors import Recording
from workers.engine.hooks import summed
from workers.engine.runs import Stage
from workers.engine.subject import Subject

Arguments = tuple[Any, ...]
Gradients = dict[tuple[Stage, int], Float[Tensor, "position width"]]
"""By stage and layer; the residual stream also behind the last layer."""
KEPT = (Stage.RESID, Stage.Z, Stage.ATTN_OUT, Stage.MLP_OUT)


def gradients(subject: Subject, recipient: Recording, labels: LabelTokens) -> Gradients:
    """Gradient of d at every stage of a prompt's run."""
    with _graph(subject, recipient, labels) as (d, kept):
        return _grad(d, kept)


def dropped_gradients(subject: Subject, recipient: Recording, labels: LabelTokens) -> Iterator[Gradients]:
    """The same once for each layer, with nothing flowing back through that layer's attention and MLP.

    GradDrop (Kramár et al. 2024, section 3.2): a direct and an indirect effect that cancel each other in the whole
    gradient do not in all of these.
    """
    dropped = -1

    def dropping(layer: int) -> Callable[[Tensor], Tensor | None]:
        return lambda gradient: torch.zeros_like(gradient) if layer == dropped else None

    with _graph(subject, recipient, labels) as (d, kept):
        for stage in (Stage.ATTN_OUT, Stage.MLP_OUT):
            for layer, output in enumerate(kept[stage]):
                output.register_hook(dropping(layer))
        for dropped in range(subject.anatomy.layers):  # noqa: B007 - the hooks read it
            yield _grad(d, kept, again=True)


def path_gradient(
    subject: Subject,
    recipient: Recording,
    donor: Recording,
    labels: LabelTokens,
    *,
    stage: Stage,
    layer: int,
    steps: int,
) -> Float[Tensor, "position width"]:
    """Mean gradient of d by one layer's activation on the straight way from the recipient's to the donor's.

    Integrated gradients (Sundararajan et al. 2017) by the midpoint rule: times the change, and summed over all
    positions, it is the exact effect of exchanging the whole activation, but for the steps' width.
    """
    own, others = (_kept(recording, stage)[layer].float() for recording in (recipient, donor))
    shares = (torch.arange(steps, device=own.device) + 0.5) / steps
    path = torch.lerp(own, others, shares[:, None, None]).to(subject.dtype).requires_grad_()
    with torch.enable_grad(), _replaced(subject, stage, layer, path):
        found = torch.autograd.grad(_decision(subject, recipient, labels, rows=steps).sum(), path)
    return found[0].float().mean(0)


def _kept(recording: Recording, stage: Stage) -> Sequence[Float[Tensor, "position width"]]:
    return {
        Stage.RESID: recording.resid,
        Stage.Z: recording.z,
        Stage.ATTN_OUT: recording.attn_out,
        Stage.MLP_OUT: recording.mlp_out,
    }[stage]


def _decision(subject: Subject, recipient: Recording, labels: LabelTokens, *, rows: int = 1) -> Float[Tensor, " run"]:
    ids = torch.tensor([recipient.entry.ids] * rows, device=subject.device)
    logits = subject.model(input_ids=ids, use_cache=False).logits.float()
    logits = logits if subject.anatomy.classifies else logits[:, -1]
    split = len(labels.favorable)
    one, other = (logits[:, list(side)].logsumexp(1) for side in (labels.firsts[:split], labels.firsts[split:]))
    d: Tensor = one - other
    return d


def _grad(d: Tensor, kept: dict[Stage, list[Tensor]], *, again: bool = False) -> Gradients:
    found = iter(
        torch.autograd.grad(d, [tensor for tensors in kept.values() for tensor in tensors], retain_graph=again)
    )
    return {
        (stage, layer): next(found).flatten(0, -2) for stage, tensors in kept.items() for layer in range(len(tensors))
    }


@contextmanager
def _graph(
    subject: Subject, recipient: Recording, labels: LabelTokens
) -> Iterator[tuple[Float[Tensor, ""], dict[Stage, list[Tensor]]]]:
    """D of a run with its graph, and the activations in it."""
    kept: dict[Stage, list[Tensor]] = {stage: [] for stage in KEPT}
    anatomy = subject.anatomy
    with ExitStack() as stack, torch.enable_grad():
        for block in anatomy.blocks:
            stack.callback(block.layer.register_forward_pre_hook(_leaf(kept[Stage.RESID])).remove)
            stack.callback(block.out_proj.register_forward_pre_hook(_input(kept[Stage.Z])).remove)
            stack.callback(block.attn_add.register_forward_hook(_output(kept[Stage.ATTN_OUT])).remove)
            stack.enter_context(summed(block.mlp_beside, block.mlp_add))
            stack.callback(block.mlp_add.register_forward_hook(_output(kept[Stage.MLP_OUT])).remove)
        stack.callback(_final_norm(subject).register_forward_pre_hook(_input(kept[Stage.RESID])).remove)
        yield _decision(subject, recipient, labels)[0], kept


@contextmanager
def _replaced(subject: Subject, stage: Stage, layer: int, value: Tensor) -> Iterator[None]:
    """Let one activation be this value instead."""
    anatomy = subject.anatomy

    def put_in(_: nn.Module, arguments: Arguments) -> Arguments:
        return (value.view_as(arguments[0]), *arguments[1:])

    def put_out(_: nn.Module, __: Arguments, output: Tensor | Arguments) -> Tensor | Arguments:
        if isinstance(output, tuple):
            return (value.view_as(output[0]), *output[1:])
        return value.view_as(output)

    ends = layer == anatomy.layers
    block = anatomy.blocks[layer - ends]
    with summed(block.mlp_beside, block.mlp_add):
        if stage in {Stage.RESID, Stage.Z}:
            reads = _final_norm(subject) if ends else block.layer if stage is Stage.RESID else block.out_proj
            handle = reads.register_forward_pre_hook(put_in)
        else:
            handle = (block.attn_add if stage is Stage.ATTN_OUT else block.mlp_add).register_forward_hook(put_out)
        try:
            yield
        finally:
            handle.remove()


def _final_norm(subject: Subject) -> nn.Module:
    if subject.anatomy.final_norm is None:
        raise InvalidTrace(
            f"effects in {subject.anatomy.family} classifiers are not estimated", remedy="patch all sites exactly"
        )
    return subject.anatomy.final_norm


def _leaf(kept: list[Tensor]) -> Callable[[nn.Module, Arguments], Arguments]:
    """Keep a layer's input; the first layer's begins the graph, since no weight asks for a gradient."""

    def hook(_: nn.Module, arguments: Arguments) -> Arguments:
        stream = arguments[0] if arguments[0].requires_grad else arguments[0].detach().requires_grad_()
        kept.append(stream)
        return (stream, *arguments[1:])

    return hook


def _input(kept: list[Tensor]) -> Callable[[nn.Module, Arguments], None]:
    return lambda _, arguments: kept.append(arguments[0])


def _output(kept: list[Tensor]) -> Callable[[nn.Module, Arguments, Tensor | Arguments], None]:
    return lambda _, __, output: kept.append(output[0] if isinstance(output, tuple) else output)
