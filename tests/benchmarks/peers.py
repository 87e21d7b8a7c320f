"""Other patching libraries, used as their documentation shows, where they are installed."""

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from workers.engine.positions import Exchange

SINGLE = (SiteKind.RESID_PRE, SiteKind.ATTN_OUT, SiteKind.MLP_OUT)
_NAMES = {
    SiteKind.RESID_PRE: "blocks.{}.hook_resid_pre",
    SiteKind.ATTN_OUT: "blocks.{}.hook_attn_out",
    SiteKind.MLP_OUT: "blocks.{}.hook_mlp_out",
    SiteKind.Z: "blocks.{}.attn.hook_z",
}
Contender = Callable[[Sequence[Exchange]], Iterator[list[float]]]
"""Yields the patched decision values of the next cells, as many at a time as it computes together."""


def available(model: Path, clean: Sequence[int], corrupt: Sequence[int], labels: LabelTokens) -> dict[str, Contender]:
    """Name → contender of each peer that can be imported; loading its model is not part of its time."""
    return (
        {"TransformerLens": _transformer_lens(model, clean, corrupt, labels)} if find_spec("transformer_lens") else {}
    )


@torch.no_grad()
def _transformer_lens(model: Path, clean: Sequence[int], corrupt: Sequence[int], labels: LabelTokens) -> Contender:
    from transformer_lens.model_bridge import TransformerBridge  # noqa: PLC0415

    bridge = TransformerBridge.boot_transformers(str(model), device="cpu")
    _, cache = bridge.run_with_cache(torch.tensor([list(clean)]))
    tokens = torch.tensor([list(corrupt)])

    def run(cells: Sequence[Exchange]) -> Iterator[list[float]]:
        for cell in cells:
            name = _NAMES[cell.kind].format(cell.layer)
            put = _putting(cell, cache[name], heads=bridge.cfg.n_heads)
            with torch.no_grad():
                logits = bridge.run_with_hooks(tokens, fwd_hooks=[(name, put)])[0, -1].float()
            favorable, unfavorable = (logits[[token for (token,) in side]].logsumexp(-1) for side in labels)
            yield [float(favorable - unfavorable)]

    return run


def _putting(cell: Exchange, donor: torch.Tensor, *, heads: int) -> Callable[..., torch.Tensor]:
    def put(activation: torch.Tensor, hook: Any) -> torch.Tensor:
        changed = activation.clone()
        if cell.head is None:
            changed[:, list(cell.recipient)] = donor[:, list(cell.donor)]
        else:
            by_head = changed.view(*changed.shape[:2], heads, -1)
            by_head[:, list(cell.recipient), cell.head] = donor.view_as(by_head)[:, list(cell.donor), cell.head]
        return changed

    return put
