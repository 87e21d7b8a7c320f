"""Path patching: what one part tells another directly, everything between them held still.

Wang et al. 2023 (IOI, section 3.1) and Goldowsky-Dill et al. 2023. First the sender is exchanged in the recipient's run
while all later attention outputs stay the recipient's own; what the receivers then receive is put, alone, into the
recipient's run. A receiver at the end of the residual stream gives the sender's direct effect on the decision.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidTrace
from workers.engine.donors import Recording, record_entry
from workers.engine.flight import Edit, Stage
from workers.engine.patching import patch
from workers.engine.placing import STAGES, check, edits_of
from workers.engine.positions import Exchange
from workers.engine.progress import StopCheck, never_stop
from workers.engine.subject import Subject


def path_patch(
    subject: Subject,
    recipient: Recording,
    donor: Recording,
    sender: Exchange,
    receivers: Sequence[Exchange],
    *,
    labels: LabelTokens,
    freeze_mlps: bool = False,
    should_stop: StopCheck = never_stop,
) -> NDArray[np.float32]:
    """Decision value [receiver] when each receiver alone hears the exchanged sender, in nats.

    MLPs between sender and receiver pass on what they hear, unless they are frozen as well. Receivers' positions are
    those of their ``recipient`` side. Raises InvalidTrace for a sender that is the residual stream itself, or a
    receiver before the sender.
    """
    _check(subject, sender, receivers)
    moved = sorted(zip(sender.recipient, sender.donor, strict=True))
    edits = [
        *edits_of(subject.anatomy, sender, moved, recipient, donor, start=0),
        *_frozen(subject, recipient, sender, freeze_mlps=freeze_mlps),
    ]
    heard = record_entry(subject, recipient.entry, edits=edits, should_stop=should_stop)
    same_places = [receiver._replace(donor=receiver.recipient) for receiver in receivers]
    return patch(subject, recipient, heard, same_places, labels=labels, skip_equal=False, should_stop=should_stop)


def _check(subject: Subject, sender: Exchange, receivers: Sequence[Exchange]) -> None:
    check(subject.anatomy, sender)
    if STAGES[sender.kind] is Stage.RESID:
        raise InvalidTrace(
            f"{sender.kind} cannot be a sender: all paths go through it", remedy="send from z, attn_out or mlp_out"
        )
    for receiver in receivers:
        first = sender.layer + (sender.kind is SiteKind.MLP_OUT or receiver.kind is not SiteKind.MLP_OUT)
        if receiver.layer < first - (receiver.kind is SiteKind.RESID_POST):
            raise InvalidTrace(
                f"{receiver.kind} at layer {receiver.layer} does not come after {sender.kind} at layer {sender.layer}",
                remedy="name receivers behind the sender",
            )


def _frozen(subject: Subject, recipient: Recording, sender: Exchange, *, freeze_mlps: bool) -> Iterator[Edit]:
    """Edits that keep what comes after the sender as the recipient has it."""
    rows = torch.arange(recipient.length, device=recipient.entry.hidden.device)
    for layer in range(sender.layer + 1, subject.anatomy.layers):
        yield Edit(Stage.ATTN_OUT, layer, None, rows, recipient.attn_out[layer])
    if freeze_mlps:
        for layer in range(sender.layer + (sender.kind is SiteKind.MLP_OUT), subject.anatomy.layers):
            yield Edit(Stage.MLP_OUT, layer, None, rows, recipient.mlp_out[layer])
