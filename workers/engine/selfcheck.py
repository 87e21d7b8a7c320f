"""The controls that every run carries (METHOD.md section 5), measured on the run's own pair."""

from collections.abc import Sequence

import torch

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from audit_service.domain.trace import Control
from audit_service.errors import ControlFailed
from workers.engine.donors import Recording, record
from workers.engine.loading import Subject
from workers.engine.patching import patch
from workers.engine.positions import Exchange
from workers.engine.readout import decision_values, logits
from workers.engine.tokens import EncodedPair

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}
"""Largest deviation in nats that the number format explains."""


def run_controls(subject: Subject, encoded: EncodedPair, labels: LabelTokens) -> tuple[Control, ...]:
    """Measure all controls on one pair; ControlFailed names those that fail."""
    clean, corrupt = record(subject, encoded.clean.ids), record(subject, encoded.corrupt.ids)
    controls = (
        _control(subject, "logits of a plain forward", _plain_forward(subject, clean, labels)),
        _control(subject, "self-patch", _self_patch(subject, corrupt, labels)),
        _control(subject, "full patch equals the donor", _full_patch(subject, clean, corrupt, labels)),
        _control(subject, "row alone equals row in a batch", _alone(subject, clean, corrupt, labels)),
    )
    require(controls)
    return controls


def require(controls: Sequence[Control]) -> None:
    """Raise ControlFailed if any control failed."""
    if failed := [control for control in controls if not control.passed]:
        raise ControlFailed(
            f"{len(failed)} of {len(controls)} controls failed: the measured effects cannot be trusted on this machine",
            remedy="run in float32 on another device, and report the model's family",
            details=[f"{c.name}: deviates by {c.measured:.2g} nats, tolerance {c.tolerance:.2g}" for c in failed],
        )


def _control(subject: Subject, name: str, measured: float) -> Control:
    tolerance = TOLERANCE[subject.dtype]
    return Control(name=name, measured=measured, tolerance=tolerance, passed=measured <= tolerance)


@torch.inference_mode()
def _plain_forward(subject: Subject, clean: Recording, labels: LabelTokens) -> float:
    """Largest difference of a label's log-odds against the model's own forward, untouched by the engine."""
    tokens = labels.favorable + labels.unfavorable
    ids = torch.tensor([clean.entry.ids], device=subject.device)
    plain = subject.model(input_ids=ids, use_cache=False).logits[0, -1, list(tokens)].float()
    return float((logits(subject, clean.decision[None], tokens=tokens)[0] - plain).abs().max())


def _self_patch(subject: Subject, corrupt: Recording, labels: LabelTokens) -> float:
    """Largest effect of putting a run's own activations, of every layer and kind, into itself."""
    last = corrupt.length - 1
    sites = [
        Exchange(kind, layer, None, (last,), (last,))
        for kind in (SiteKind.RESID_PRE, SiteKind.ATTN_OUT, SiteKind.MLP_OUT)
        for layer in range(subject.anatomy.layers)
    ]
    found = patch(subject, corrupt, corrupt, sites, labels=labels, skip_equal=False)
    own = float(decision_values(subject, corrupt.decision[None], labels))
    return float(abs(found - own).max())


def _full_patch(subject: Subject, clean: Recording, corrupt: Recording, labels: LabelTokens) -> float:
    """Difference to the donor's own decision when every position of the residual stream is exchanged.

    Prompts of unequal length are compared through their last position behind the last layer: it holds the decision.
    """
    layer = subject.anatomy.layers // 2
    if clean.length == corrupt.length:
        everywhere = tuple(range(clean.length))
        site = Exchange(SiteKind.RESID_PRE, layer, None, everywhere, everywhere)
    else:
        site = Exchange(
            SiteKind.RESID_POST, subject.anatomy.layers - 1, None, (corrupt.length - 1,), (clean.length - 1,)
        )
    found = patch(subject, corrupt, clean, [site], labels=labels)
    return float(abs(found[0] - float(decision_values(subject, clean.decision[None], labels))))


def _alone(subject: Subject, clean: Recording, corrupt: Recording, labels: LabelTokens) -> float:
    """Largest difference between cells computed together and the same cells computed one by one."""
    shared = min(clean.length, corrupt.length)
    sites = [
        Exchange(SiteKind.RESID_PRE, layer, None, (corrupt.length - back,), (clean.length - back,))
        for layer in {0, subject.anatomy.layers // 2, subject.anatomy.layers - 1}
        for back in {1, 1 + shared // 4}
    ]
    together = patch(subject, corrupt, clean, sites, labels=labels)
    alone = [patch(subject, corrupt, clean, [site], labels=labels)[0] for site in sites]
    return float(abs(together - alone).max())
