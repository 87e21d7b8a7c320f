"""Runs with single edges exchanged, part by part, with nothing but plain forward hooks: slow, and easy to read."""

from collections.abc import Sequence

import torch
from torch import Tensor

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from tests.workers.engine import naive
from workers.engine.loading import Subject
from workers.engine.positions import Exchange

Outputs = dict[str, Tensor]


def outputs(subject: Subject, ids: Sequence[int]) -> Outputs:
    """What every sender adds to the residual stream in a plain run."""
    found = {"input": _read(subject, ids, SiteKind.RESID_PRE, 0)}
    for layer in range(subject.anatomy.layers):
        for head in range(subject.anatomy.heads):
            found[f"a{layer}.h{head}"] = _projected(subject, layer, head, _read(subject, ids, SiteKind.Z, layer, head))
        found[f"m{layer}"] = naive.multiplier_of(subject) * _read(subject, ids, SiteKind.MLP_OUT, layer)
    return found


def decision(
    subject: Subject, ids: Sequence[int], corrupt: Outputs, shares: dict[tuple[str, str], float], labels: LabelTokens
) -> float:
    """d when each edge (sender, reader) carries the given share of what is sent now and the rest of the corrupt run."""
    now = {"input": _read(subject, ids, SiteKind.RESID_PRE, 0)}
    anatomy = subject.anatomy

    def heard(reader: str, senders: list[str]) -> Tensor:
        parts = [torch.lerp(corrupt[s], now[s], shares.get((s, reader), 0.0)) for s in senders]
        return torch.stack(parts).sum(0) + bias

    bias = torch.zeros(1, dtype=now["input"].dtype)
    for layer in range(anatomy.layers):
        before = list(now)
        put = []
        counts = {SiteKind.Q: anatomy.heads, SiteKind.K: anatomy.kv_heads, SiteKind.V: anatomy.kv_heads}
        for kind, count in counts.items():
            for head in range(count):
                stream = (_at(SiteKind.RESID_PRE, layer, None, ids), heard(f"a{layer}.h{head}.{kind}", before))
                site = _at(kind, layer, head, ids)
                put.append((site, naive.activation(subject, ids, site, [stream])))
        for head in range(anatomy.heads):
            z = naive.activation(subject, ids, _at(SiteKind.Z, layer, head, ids), put)
            now[f"a{layer}.h{head}"] = _projected(subject, layer, head, z)
        stream = heard(f"m{layer}", before if anatomy.parallel else list(now))
        silent = torch.zeros_like(stream)
        if not anatomy.parallel:
            stream = stream + _bias(subject, layer)
        values = {SiteKind.RESID_PRE: stream, SiteKind.ATTN_OUT: silent}
        alone = [(_at(kind, layer, None, ids), value) for kind, value in values.items()]
        mlp = naive.activation(subject, ids, _at(SiteKind.MLP_OUT, layer, None, ids), alone)
        now[f"m{layer}"] = naive.multiplier_of(subject) * mlp
        bias = bias + _bias(subject, layer)
    last = (_at(SiteKind.RESID_POST, anatomy.layers - 1, None, ids), heard("answer", list(now)))
    return naive.decision(naive.logits(subject, ids, [last]), *labels)


def _at(kind: SiteKind, layer: int, head: int | None, ids: Sequence[int]) -> Exchange:
    everywhere = tuple(range(len(ids)))
    return Exchange(kind, layer, head, everywhere, everywhere)


def _read(subject: Subject, ids: Sequence[int], kind: SiteKind, layer: int, head: int | None = None) -> Tensor:
    return naive.activation(subject, ids, _at(kind, layer, head, ids))


def _projected(subject: Subject, layer: int, head: int, z: Tensor) -> Tensor:
    """What a head's z becomes behind the output projection, without its bias."""
    project = subject.anatomy.blocks[layer].out_proj
    whole = z.new_zeros(len(z), subject.anatomy.heads * z.shape[-1])
    whole[:, head * z.shape[-1] : (head + 1) * z.shape[-1]] = z
    return naive.multiplier_of(subject) * (project(whole) - project(torch.zeros_like(whole))).detach()


def _bias(subject: Subject, layer: int) -> Tensor:
    bias = getattr(subject.anatomy.blocks[layer].out_proj, "bias", None)
    return torch.zeros(1) if bias is None else naive.multiplier_of(subject) * bias.detach()
