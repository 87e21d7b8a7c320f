"""Attribution patching: estimates of all effects from a few backward passes, always followed by exact measurements.

An estimate is never an effect: it says where to look (``screening.py`` looks). Three estimators, from cheap to dear:
the first-order one (Nanda 2023), its GradDrop (Kramár et al. 2024, AtP*, arXiv 2403.00745) and integrated gradients.
Inside attention all of them use AtP*'s fix (section 3.1 there): what an exchanged query, key, value or pattern makes of
the head's output is computed exactly, through the softmax, and only what follows is estimated.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidTrace
from workers.engine.donors import Recording
from workers.engine.gradients import KEPT, Gradients, dropped_gradients, gradients, path_gradient
from workers.engine.heads import INSIDE, head_weights, pattern_rows, require_counterpart
from workers.engine.placing import check, kept_of, layer_of, stage_of
from workers.engine.positions import Exchange
from workers.engine.runs import Stage
from workers.engine.subject import Subject

STEPS = 8
"""Points on the way from the recipient's to the donor's activation, for integrated gradients."""


class Estimator(StrEnum):
    """How an effect is estimated; none of them is a measurement."""

    FIRST_ORDER = "first_order"
    """Change of the activation times gradient: one backward pass for all sites."""
    GRAD_DROP = "grad_drop"
    """Mean magnitude over backward passes that each leave one layer out: finds effects that cancel each other in the
    whole gradient, has no sign, takes a pass for each layer."""
    INTEGRATED = "integrated"
    """Gradient averaged over the way to the donor's activation: passes for each layer and stage."""


def attribute(
    subject: Subject,
    recipient: Recording,
    donor: Recording,
    exchanges: Sequence[Exchange],
    *,
    labels: LabelTokens,
    estimator: Estimator = Estimator.FIRST_ORDER,
) -> NDArray[np.float32]:
    """Estimate [exchange] of d_patched - d_recipient in nats; of its magnitude under GradDrop.

    Raises InvalidTrace for sites that no estimate is made for and for labels of several tokens.
    """
    _check(subject, recipient, donor, exchanges, labels)
    if estimator is Estimator.FIRST_ORDER:
        found = _estimates(subject, gradients(subject, recipient, labels), exchanges, recipient, donor)
    elif estimator is Estimator.GRAD_DROP:
        found = _grad_drop(subject, exchanges, recipient, donor, labels)
    else:
        found = _integrated(subject, exchanges, recipient, donor, labels)
    return found.astype(np.float32)


def _check(
    subject: Subject, recipient: Recording, donor: Recording, exchanges: Sequence[Exchange], labels: LabelTokens
) -> None:
    if len(labels.beginnings) > 1:
        raise InvalidTrace(
            "estimates are made for labels of one token each",
            remedy="declare such labels, or patch all sites exactly",
        )
    if subject.packing is not None:
        raise InvalidTrace(
            f"no gradient goes through weights in {subject.packing}",
            remedy="patch all sites exactly, without screening",
        )
    for exchange in exchanges:
        check(subject.anatomy, exchange)
        require_counterpart(exchange, recipient, donor)
        if exchange.kind in INSIDE and subject.anatomy.gated:
            raise InvalidTrace(
                f"no estimate is made for {exchange.name}: {subject.anatomy.family} gates or norms what its heads read",
                remedy="patch it exactly, or screen z",
            )
        if not exchange.is_whole or (exchange.kind not in INSIDE and stage_of(exchange) not in KEPT):
            raise InvalidTrace(
                f"no estimate is made for {exchange.name}, or for parts of an activation",
                remedy="patch it exactly, or screen whole activations of the residual stream, heads, attn_out, mlp_out",
            )


def _estimates(
    subject: Subject, slopes: Gradients, exchanges: Sequence[Exchange], recipient: Recording, donor: Recording
) -> NDArray[np.float64]:
    return np.array([_estimate(subject, slopes, each, recipient, donor) for each in exchanges], dtype=np.float64)


def _estimate(subject: Subject, slopes: Gradients, exchange: Exchange, recipient: Recording, donor: Recording) -> float:
    if exchange.kind in INSIDE:
        by_head = _by_head(slopes[Stage.Z, exchange.layer], subject, exchange.layer).float()
        changes = _changes_of_z(subject, exchange, recipient, donor)
        return float(sum((change.float() * by_head[rows, head]).sum() for head, rows, change in changes))
    stage, layer = stage_of(exchange), layer_of(exchange)
    to, by = list(exchange.recipient), list(exchange.donor)
    change = (kept_of(donor, stage)[layer][by] - kept_of(recipient, stage)[layer][to]).float()
    products = change * slopes[stage, layer][to].float()
    if exchange.head is not None:
        products = _by_head(products, subject, layer)[:, exchange.head]
    return float(products.sum())


def _by_head(
    rows: Float[Tensor, "row heads_width"], subject: Subject, layer: int
) -> Float[Tensor, "row head value_width"]:
    return rows.view(len(rows), subject.anatomy.blocks[layer].heads, -1)


def _grad_drop(
    subject: Subject, exchanges: Sequence[Exchange], recipient: Recording, donor: Recording, labels: LabelTokens
) -> NDArray[np.float64]:
    """Mean magnitude over the dropped layers other than the exchange's own, in which nothing would be left of it."""
    found = np.array(
        [
            np.abs(_estimates(subject, slopes, exchanges, recipient, donor))
            for slopes in dropped_gradients(subject, recipient, labels)
        ]
    )
    own = [exchange.layer for exchange in exchanges]
    counted = np.arange(len(found))[:, None] != np.array(own)
    means: NDArray[np.float64] = (found * counted).sum(0) / np.maximum(counted.sum(0), 1)
    return means


def _integrated(
    subject: Subject, exchanges: Sequence[Exchange], recipient: Recording, donor: Recording, labels: LabelTokens
) -> NDArray[np.float64]:
    if recipient.length != donor.length:
        raise InvalidTrace(
            f"integrated gradients need prompts of equal length, not {recipient.length} and {donor.length} tokens",
            remedy="use cues of equal token length, or the first-order estimate",
        )
    places = {(Stage.Z if each.kind in INSIDE else stage_of(each), layer_of(each)) for each in exchanges}
    slopes = {
        (stage, layer): path_gradient(subject, recipient, donor, labels, stage=stage, layer=layer, steps=STEPS)
        for stage, layer in sorted(places)
    }
    return _estimates(subject, slopes, exchanges, recipient, donor)


def _changes_of_z(
    subject: Subject, exchange: Exchange, recipient: Recording, donor: Recording
) -> Iterator[tuple[int, Int[Tensor, " row"], Float[Tensor, "row value_width"]]]:
    """The rows of each query head's output that an exchange inside attention changes, and by how much.

    A query or a pattern changes its own position; a key or a value all later ones, of every head that shares it.
    """
    layer, number = exchange.layer, exchange.head
    assert number is not None  # noqa: S101 - checked
    mine, others, mask = recipient.heads[layer], donor.heads[layer], recipient.entry.calls[layer].mask
    own = _by_head(recipient.z[layer], subject, layer)
    to, by = (torch.tensor(side, device=own.device) for side in (exchange.recipient, exchange.donor))
    repeat = mine.query.shape[0] // mine.key.shape[0]
    if exchange.kind in {SiteKind.K, SiteKind.V}:
        key, value, rows = mine.key[number].clone(), mine.value[number].clone(), torch.arange(int(to.min()), len(own))
        if exchange.kind is SiteKind.K:
            key[to] = others.key[number, by]
        else:
            value[to] = others.value[number, by]
        rows = rows.to(own.device)
        for head in range(number * repeat, (number + 1) * repeat):
            weights = head_weights(mine, head, mine.query[head, rows] @ key.T, mask[rows])
            yield head, rows, weights @ value - own[rows, head]
        return
    shared = number // repeat
    if exchange.kind is SiteKind.Q:
        weights = head_weights(mine, number, others.query[number, by] @ mine.key[shared].T, mask[to])
    else:
        weights = pattern_rows(donor, layer, number, by)
    yield number, to, weights @ mine.value[shared] - own[to, number]
