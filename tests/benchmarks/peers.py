"""Other patching libraries, used as their documentation shows, where they are installed (`make oracle`).

Each takes token ids, so that no tokenizer stands between the contenders, and gives decision values like the engine's.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import HEAD_KINDS, SiteKind
from tests.workers.engine import naive
from workers.engine.loading import Subject
from workers.engine.placing import heads_of
from workers.engine.positions import Exchange

SINGLE = (SiteKind.RESID_PRE, SiteKind.ATTN_OUT, SiteKind.MLP_OUT)
Cells = Sequence[Exchange]
Contender = Callable[[Cells], Iterator[dict[int, float]]]
"""Yields patched decision values by the cell's number, as many at a time as it computes together."""


@dataclass(frozen=True, slots=True)
class Case:
    """What every contender patches: donor activations from the clean prompt go into the corrupt one."""

    subject: Subject
    folder: Path
    """Where the subject came from, for those who load the model themselves."""
    clean: tuple[int, ...]
    corrupt: tuple[int, ...]
    labels: LabelTokens

    def ids(self, prompt: Sequence[int], rows: int = 1) -> Tensor:
        return torch.tensor([list(prompt)] * rows, device=self.subject.device)

    def values(self, logits: Tensor) -> list[float]:
        """Decision values of [row, token] logits."""
        favorable, unfavorable = (logits.float()[:, [token for (token,) in side]].logsumexp(1) for side in self.labels)
        values: list[float] = (favorable - unfavorable).tolist()
        return values


def available(case: Case) -> dict[str, Contender]:
    """Name → contender of each peer that can be imported; loading its model is not part of its time."""
    peers: dict[str, tuple[str, Callable[[Case], Contender]]] = {
        "TransformerLens": ("transformer_lens", transformer_lens),
        "nnsight, batches of 32": ("nnsight", functools.partial(nnsight, batch=32)),
        "pyvene, batches of 16": ("pyvene", functools.partial(pyvene, batch=16)),
    }
    return {name: make(case) for name, (package, make) in peers.items() if find_spec(package)}


def hooks(case: Case, *, batch: int) -> Contender:
    """A loop over plain forward hooks with the donor recorded once, as careful users write it."""

    def run(cells: Cells) -> Iterator[dict[int, float]]:
        kept: dict[tuple[SiteKind, int], Tensor] = {}
        everywhere = tuple(range(len(case.clean)))
        for first in range(0, len(cells), batch):
            part = cells[first : first + batch]
            for kind, layer in {(cell.kind, cell.layer) for cell in part} - set(kept):
                site = Exchange(kind, layer, None, everywhere, everywhere)
                kept[kind, layer] = naive.activation(case.subject, case.clean, site)
            donors = [(cell, kept[cell.kind, cell.layer]) for cell in part]
            values = case.values(naive.batched_logits(case.subject, case.corrupt, donors))
            yield dict(enumerate(values, start=first))

    return run


def transformer_lens(case: Case) -> Contender:
    """One forward per cell: its hooks act on all rows of a batch alike."""
    from transformer_lens.model_bridge import TransformerBridge  # noqa: PLC0415

    names = {
        SiteKind.RESID_PRE: "blocks.{}.hook_resid_pre",
        SiteKind.RESID_POST: "blocks.{}.hook_resid_post",
        SiteKind.ATTN_OUT: "blocks.{}.hook_attn_out",
        SiteKind.MLP_OUT: "blocks.{}.hook_mlp_out",
        **{kind: f"blocks.{{}}.attn.hook_{kind}" for kind in HEAD_KINDS},
    }
    where = {"device": str(case.subject.device), "dtype": case.subject.dtype}
    bridge = TransformerBridge.boot_transformers(str(case.folder), **where)

    @torch.no_grad()
    def run(cells: Cells) -> Iterator[dict[int, float]]:
        _, cache = bridge.run_with_cache(case.ids(case.clean))
        for number, cell in enumerate(cells):
            name = names[cell.kind].format(cell.layer)
            put = _putting(cell, cache[name], heads=heads_of(case.subject.anatomy, cell.kind))
            logits = bridge.run_with_hooks(case.ids(case.corrupt), fwd_hooks=[(name, put)])
            yield {number: case.values(logits[:, -1])[0]}

    return run


def _putting(cell: Exchange, donor: Tensor, *, heads: int) -> Callable[..., Tensor]:
    def put(activation: Tensor, hook: Any) -> Tensor:
        changed = activation.clone(memory_format=torch.contiguous_format)
        if cell.head is None:
            changed[:, list(cell.recipient)] = donor[:, list(cell.donor)]
        elif cell.kind is SiteKind.PATTERN:
            changed[:, cell.head, list(cell.recipient)] = donor[:, cell.head, list(cell.donor)]
        else:
            by_head = changed.view(*changed.shape[:2], heads, -1)
            by_head[:, list(cell.recipient), cell.head] = donor.reshape_as(by_head)[:, list(cell.donor), cell.head]
        return changed

    return put


def nnsight(case: Case, *, batch: int) -> Contender:
    """One row per cell; a trace meets the modules in the order in which the model runs them."""
    from nnsight import NNsight  # noqa: PLC0415

    model = NNsight(case.subject.model)
    names = {id(module): name for name, module in case.subject.model.named_modules()}

    def envoy(cell: Exchange) -> Any:
        block = case.subject.anatomy.blocks[cell.layer]
        modules = {
            SiteKind.RESID_PRE: block.layer,
            SiteKind.RESID_POST: block.layer,
            SiteKind.Z: block.out_proj,
            SiteKind.ATTN_OUT: block.attn_add,
            SiteKind.MLP_OUT: block.mlp_add,
        }
        steps = names[id(modules[cell.kind])].split(".")
        return functools.reduce(lambda at, step: at[int(step)] if step.isdigit() else getattr(at, step), steps, model)

    def recorded(sites: list[Exchange]) -> list[Tensor]:
        with torch.no_grad(), model.trace(input_ids=case.ids(case.clean)):
            kept = [envoy(site).input if _reads_input(site) else envoy(site).output for site in sites]
            kept.save()  # nnsight gives lists inside a trace this method
        return [values.view(1, len(case.clean), -1) for values in kept]

    @torch.no_grad()
    def run(cells: Cells) -> Iterator[dict[int, float]]:
        heads = case.subject.anatomy.heads
        sites = sorted({cell._replace(head=None, recipient=(), donor=()) for cell in cells}, key=_when)
        donors = dict(zip([site[:2] for site in sites], recorded(sites), strict=True))
        for first in range(0, len(cells), batch):
            part = sorted(enumerate(cells[first : first + batch]), key=lambda numbered: _when(numbered[1]))
            with model.trace(input_ids=case.ids(case.corrupt, len(part))):
                for row, cell in part:
                    rows = envoy(cell).input if _reads_input(cell) else envoy(cell).output
                    _put_row(rows.view(len(part), len(case.corrupt), -1), donors[cell[:2]], row, cell, heads)
                logits = model.output.logits[:, -1].save()
            yield dict(enumerate(case.values(logits), start=first))

    return run


def _when(cell: Exchange) -> tuple[int, int]:
    """When the model runs the cell's module."""
    return cell.layer, _ORDER.index(cell.kind)


_ORDER = (SiteKind.RESID_PRE, SiteKind.Z, SiteKind.ATTN_OUT, SiteKind.MLP_OUT, SiteKind.RESID_POST)


def _reads_input(cell: Exchange) -> bool:
    return cell.kind in {SiteKind.RESID_PRE, SiteKind.Z}


def _put_row(activation: Tensor, donor: Tensor, row: int, cell: Exchange, heads: int) -> None:
    to, by = list(cell.recipient), list(cell.donor)
    if cell.head is None:
        activation[row, to] = donor[0, by]
    else:
        heads_of = activation.unflatten(-1, (heads, -1))
        heads_of[row, to, cell.head] = donor.unflatten(-1, (heads, -1))[0, by, cell.head]


def pyvene(case: Case, *, batch: int) -> Contender:
    """Batches of one layer's cells, with the source's activations given instead of computed each time."""
    import pyvene as pv  # noqa: PLC0415

    components = {
        SiteKind.RESID_PRE: "block_input",
        SiteKind.RESID_POST: "block_output",
        SiteKind.ATTN_OUT: "attention_output",
        SiteKind.MLP_OUT: "mlp_output",
        SiteKind.Z: "head_attention_value_output",
    }
    everywhere = tuple(range(len(case.clean)))

    @torch.no_grad()
    def run(cells: Cells) -> Iterator[dict[int, float]]:
        layers = dict.fromkeys((cell.kind, cell.layer) for cell in cells)
        for kind, layer in layers:
            donor = naive.activation(case.subject, case.clean, Exchange(kind, layer, None, everywhere, everywhere))
            unit = "h" if kind is SiteKind.Z else "pos"
            given = {"layer": layer, "component": components[kind], "unit": unit}
            model = pv.IntervenableModel([{**given, "intervention_type": pv.VanillaIntervention}], case.subject.model)
            mine = [(number, cell) for number, cell in enumerate(cells) if (cell.kind, cell.layer) == (kind, layer)]
            for first in range(0, len(mine), batch):
                part = mine[first : first + batch]
                units = [[cell.recipient[0] if cell.head is None else cell.head] for _, cell in part]
                _, patched = model(
                    {"input_ids": case.ids(case.corrupt, len(part))},
                    unit_locations={"sources->base": ([units], [units])},
                    source_representations=[_source(donor, [cell for _, cell in part], case.subject.anatomy.heads)],
                    use_cache=False,
                )
                yield dict(zip([number for number, _ in part], case.values(patched.logits[:, -1]), strict=True))

    return run


def _source(donor: Tensor, cells: Sequence[Exchange], heads: int) -> Tensor:
    if cells[0].head is None:
        return torch.stack([donor[cell.donor[0]] for cell in cells])[:, None]
    by_head = donor.view(len(donor), heads, -1)
    return torch.stack([by_head[:, cell.head] for cell in cells])[:, None]
