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
from workers.engine.anatomy import Anatomy
from workers.engine.donors import Recording, record_entry
from workers.engine.patching import patch_together
from workers.engine.placing import STAGES, Moves, check, edits_of, heads_of
from workers.engine.positions import Exchange
from workers.engine.progress import Progress, StopCheck, never_stop, no_progress
from workers.engine.runs import Edit, Stage
from workers.engine.subject import Subject


def path_patch(
    subject: Subject,
    recipient: Recording,
    donor: Recording,
    senders: Sequence[Exchange],
    receivers: Sequence[Sequence[Exchange]],
    *,
    labels: LabelTokens,
    freeze_mlps: bool = False,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> NDArray[np.float32]:
    """Decision value [set of receivers] when each set alone hears the exchanged senders, in nats.

    Senders send together; MLPs between them and the receivers pass on what they hear, unless they are frozen as well.
    Receivers' positions are those of their ``recipient`` side. Raises InvalidTrace for a sender that is the residual
    stream itself, for senders of several layers and for a receiver before a sender.
    """
    _check(subject, senders, [receiver for each in receivers for receiver in each])
    sent = (
        edit
        for sender in senders
        for edit in edits_of(subject.anatomy, sender, _moves(sender), recipient, donor, start=0)
    )
    edits = [*sent, *_frozen(subject, recipient, senders[0], freeze_mlps=freeze_mlps)]
    neurons = any(receiver.kind is SiteKind.NEURONS for each in receivers for receiver in each)
    heard = record_entry(subject, recipient.entry, edits=edits, neurons=neurons, should_stop=should_stop)
    same_places = [[receiver._replace(donor=receiver.recipient) for receiver in each] for each in receivers]
    return patch_together(
        subject,
        recipient,
        heard,
        same_places,
        labels=labels,
        skip_equal=False,
        progress=progress,
        should_stop=should_stop,
    )


def _moves(sender: Exchange) -> Moves:
    return tuple(sorted(zip(sender.recipient, sender.donor, strict=True)))


def _check(subject: Subject, senders: Sequence[Exchange], receivers: Sequence[Exchange]) -> None:
    for sender in senders:
        check(subject.anatomy, sender)
        if STAGES[sender.kind] is Stage.RESID:
            raise InvalidTrace(
                f"{sender.kind} cannot be a sender: all paths go through it", remedy="send from z, attn_out or mlp_out"
            )
    if len({(sender.layer, sender.kind in OF_THE_MLP) for sender in senders}) != 1:
        raise InvalidTrace(
            "senders that send together stand in the attention of one layer, or in its MLP",
            remedy="name heads of one layer, or a path for each sender",
        )
    for receiver in receivers:
        check(subject.anatomy, receiver)
        for sender in senders:
            if not hears(subject.anatomy, receiver, sender):
                raise InvalidTrace(
                    f"{receiver.name} does not come after {sender.name}", remedy="name receivers behind the sender"
                )


IN_ORDER = (
    {SiteKind.RESID_PRE},
    {SiteKind.Q, SiteKind.K, SiteKind.V},
    {SiteKind.PATTERN},
    {SiteKind.Z},
    {SiteKind.ATTN_OUT},
    {SiteKind.RESID_MID},
    {SiteKind.NEURONS},
    {SiteKind.MLP_OUT},
    {SiteKind.RESID_POST},
)
"""The sites of one layer, in the order in which they are computed."""
OF_THE_MLP = frozenset({SiteKind.NEURONS, SiteKind.MLP_OUT})


def hears(anatomy: Anatomy, receiver: Exchange, sender: Exchange) -> bool:
    """Whether the network has a path from the sender to the receiver."""
    if receiver.layer != sender.layer:
        return receiver.layer > sender.layer
    if anatomy.parallel and receiver.kind in OF_THE_MLP and sender.kind not in OF_THE_MLP:
        return False
    if sender.kind is SiteKind.V and receiver.kind is SiteKind.PATTERN:
        return False
    if sender.head is not None and receiver.head is not None and not _share_a_head(anatomy, sender, receiver):
        return False
    first, then = (next(n for n, kinds in enumerate(IN_ORDER) if e.kind in kinds) for e in (sender, receiver))
    return first < then


def _share_a_head(anatomy: Anatomy, one: Exchange, other: Exchange) -> bool:
    """Whether two heads are the same, or one is the keys or values that the other reads."""
    counts = [heads_of(anatomy, each.kind) for each in (one, other)]
    groups = [int(each.head or 0) // (count // min(counts)) for each, count in zip((one, other), counts, strict=True)]
    return groups[0] == groups[1]


def _frozen(subject: Subject, recipient: Recording, sender: Exchange, *, freeze_mlps: bool) -> Iterator[Edit]:
    """Edits that keep what comes after the sender as the recipient has it."""
    rows = torch.arange(recipient.length, device=recipient.entry.hidden.device)
    for layer in range(sender.layer + 1, subject.anatomy.layers):
        yield Edit(Stage.ATTN_OUT, layer, None, rows, recipient.attn_out[layer])
    if freeze_mlps:
        for layer in range(sender.layer + (sender.kind in OF_THE_MLP), subject.anatomy.layers):
            yield Edit(Stage.MLP_OUT, layer, None, rows, recipient.mlp_out[layer])
