"""The controls that every run carries (METHOD.md section 5), measured on the run's own pair."""

import random
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from audit_service.domain.trace import Control
from audit_service.errors import ControlFailed, InvalidModel
from workers.engine.answers import answered, tails, unpatched
from workers.engine.donors import Recording, record
from workers.engine.patching import patch
from workers.engine.positions import Exchange
from workers.engine.readout import check_labels, decision_logits
from workers.engine.subject import Subject
from workers.engine.tokens import EncodedPair, EncodedPrompt

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}
"""Largest deviation in nats that the number format explains."""
PACKED = 0.05
"""The same of packed weights, whose products are rounded inside, by other kernels for few rows than for many."""
ROUNDINGS = 16
"""How often the number format may round where attention, MLP and stream are added up."""
PROVED = 12
"""Tokens of the made-up prompts with which a model is tried when it is loaded."""


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


def prove(subject: Subject) -> None:
    """Compare the engine with the model's own forward on two made-up prompts; ControlFailed where they disagree.

    Every family is guarded by this when it is loaded, also one whose tests passed on another version or machine.
    """
    rng = random.Random(0)  # noqa: S311 - any tokens will do, the same each time
    size = subject.embeddings.num_embeddings
    special = {*subject.tokenizer.all_special_ids, subject.model.config.get_text_config().pad_token_id}
    tokens = rng.sample([token for token in range(size) if token not in special], k=PROVED + 1)
    sides = (tuple(tokens[:PROVED]), (*tokens[:2], tokens[PROVED], *tokens[3:PROVED]))
    labels = LabelTokens.single(favorable=(0,), unfavorable=(1,))
    _require_sums(subject, record(subject, sides[0]))
    run_controls(subject, EncodedPair("made up", *(EncodedPrompt(ids, {}) for ids in sides)), labels)


def _require_sums(subject: Subject, recording: Recording) -> None:
    """Raise InvalidModel where the stream gains something else than what attention and MLP are said to add.

    The logits alone would not show it, but the stream between the two would be wrong. Encoders norm each sum.
    """
    if not subject.anatomy.flow.causal:
        return
    for layer, block in enumerate(subject.anatomy.blocks):
        added = block.multiplier * (recording.attn_out[layer].float() + recording.mlp_out[layer].float())
        before, behind = (recording.resid[number].to(added).float() for number in (layer, layer + 1))
        beside = behind - block.scale * (before + added)
        apart = beside.abs().max() / max(before.abs().max(), behind.abs().max(), added.abs().max())
        if not apart <= ROUNDINGS * torch.finfo(subject.dtype).eps:
            raise InvalidModel(
                f"layer {layer} of this {subject.anatomy.family} model adds something else to the residual stream "
                f"than its attention and MLP ({float(apart):.2g} of the stream): exactness is not proven",
                remedy="use a model of the family as transformers publishes it, and report this one",
            )


def require(controls: Sequence[Control]) -> None:
    """Raise ControlFailed if any control failed."""
    if failed := [control for control in controls if not control.passed]:
        raise ControlFailed(
            f"{len(failed)} of {len(controls)} controls failed: the measured effects cannot be trusted on this machine",
            remedy="run in float32 on another device, and report the model's family",
            details=[f"{c.name}: deviates by {c.measured:.2g} nats, tolerance {c.tolerance:.2g}" for c in failed],
        )


def tolerance_of(subject: Subject) -> float:
    """Largest deviation in nats that number format and packing explain."""
    return max(TOLERANCE[subject.dtype], 0.0 if subject.packing is None else PACKED)


def _control(subject: Subject, name: str, measured: float) -> Control:
    tolerance = tolerance_of(subject)
    return Control(name=name, measured=measured, tolerance=tolerance, passed=measured <= tolerance)


def _plain_forward(subject: Subject, clean: Recording, labels: LabelTokens) -> float:
    """Largest difference of a label's logit or of d against the model's own forward, untouched by the engine."""
    check_labels(subject, labels)
    own = decision_logits(subject, tails(answered(subject, clean, labels)), tokens=labels.firsts)[0]
    apart = float((own - _plain_logits(subject, clean.entry.ids)[-1, list(labels.firsts)]).abs().max())
    if len(labels.beginnings) == 1:
        return apart
    whole = torch.stack([_plain_log_p(subject, clean.entry.ids, label) for label in labels.sequences])
    split = len(labels.favorable)
    d = whole[:split].logsumexp(0) - whole[split:].logsumexp(0)
    # np.maximum keeps what is no number, where max() may drop it; such a control does not pass.
    return float(np.maximum(apart, float((unpatched(subject, [clean], labels) - d).abs())))


@torch.inference_mode()
def _plain_logits(subject: Subject, ids: Sequence[int]) -> Float[Tensor, "position token"]:
    """Logits at each position; of a classifier, its only ones."""
    found: Tensor = subject.model(torch.tensor([list(ids)], device=subject.device)).logits
    return found.flatten(0, -2).float()


def _plain_log_p(subject: Subject, ids: Sequence[int], label: Sequence[int]) -> Float[Tensor, ""]:
    rows = _plain_logits(subject, (*ids, *label[:-1]))[len(ids) - 1 :].log_softmax(1)
    return rows[range(len(label)), list(label)].sum()


def _self_patch(subject: Subject, corrupt: Recording, labels: LabelTokens) -> float:
    """Largest effect of putting a run's own activations, of every layer and kind, into itself."""
    last = corrupt.length - 1
    sites = [
        Exchange(kind, layer, None, (last,), (last,))
        for kind in (SiteKind.RESID_PRE, SiteKind.ATTN_OUT, SiteKind.MLP_OUT)
        for layer in range(subject.anatomy.layers)
    ]
    found = patch(subject, corrupt, corrupt, sites, labels=labels, skip_equal=False)
    own = float(unpatched(subject, [corrupt], labels))
    return float(abs(found - own).max())


def _full_patch(subject: Subject, clean: Recording, corrupt: Recording, labels: LabelTokens) -> float:
    """Difference to the donor's own decision when every position of the residual stream is exchanged.

    Prompts of unequal length are compared as far as the shorter one goes. Whole labels read the prompt in all layers,
    so for them the exchange is made in the first.
    """
    length = min(clean.length, corrupt.length)
    if clean.length != corrupt.length:
        clean, corrupt = (record(subject, one.entry.ids[:length]) for one in (clean, corrupt))
    layer = subject.anatomy.layers // 2 if len(labels.beginnings) == 1 else 0
    everywhere = tuple(range(length))
    site = Exchange(SiteKind.RESID_PRE, layer, None, everywhere, everywhere)
    found = patch(subject, corrupt, clean, [site], labels=labels)
    return float(abs(found[0] - float(unpatched(subject, [clean], labels))))


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
