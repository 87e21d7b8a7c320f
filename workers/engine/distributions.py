"""What a patched run says about every token, beside the decision value: readouts of one row of logits.

Zhang & Nanda 2024 (section 3) compare these metrics; METHOD.md section 4 asks for all of them on the same run.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from math import log

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from audit_service.domain.labels import LabelTokens
from workers.engine.readout import MOST_LOGITS, decision_logits, decision_of
from workers.engine.subject import Subject


@dataclass(frozen=True, slots=True)
class Readouts:
    """All readouts of some runs, each from the logits of one decision row over the whole vocabulary."""

    d: NDArray[np.float32]
    """[run] decision value, log-odds in nats."""
    log_p_favorable: NDArray[np.float32]
    """[run] log of the summed probability of the favorable labels."""
    log_p_unfavorable: NDArray[np.float32]
    """[run]"""
    kl: NDArray[np.float32]
    """[run] Kullback-Leibler divergence of this run's next-token distribution from the donor's,
    sum of P_donor (log P_donor - log P_run) in nats: 0 where the run says all that the donor says."""
    js: NDArray[np.float32]
    """[run] Jensen-Shannon divergence of the two in nats, symmetric and at most log 2."""
    rank: NDArray[np.float32]
    """[run] place of the likeliest favorable label's first token among all tokens; 1 is the likeliest token of all."""
    log_total: NDArray[np.float32]
    """[run] logsumexp of all logits: a log-probability plus this is a logit."""

    @classmethod
    def of(cls, rows: NDArray[np.float32]) -> "Readouts":
        """The columns of a [run, readout] table by their names."""
        return cls(*np.ascontiguousarray(rows.T))


READOUTS = tuple(field.name for field in fields(Readouts))


@torch.inference_mode()
def log_probabilities(subject: Subject, hidden: Float[Tensor, "1 tail width"]) -> Float[Tensor, " token"]:
    """Log-probability of every token from the residual stream behind the last layer at the decision position."""
    return decision_logits(subject, hidden)[0].log_softmax(0)


@torch.inference_mode()
def read_all(
    subject: Subject,
    hidden: Float[Tensor, "run tail width"],
    labels: LabelTokens,
    *,
    donor: Float[Tensor, " token"],
) -> Float[Tensor, "run readout"]:
    """All readouts of each run in the order of ``READOUTS``; ``donor`` holds the donor's log-probabilities.

    Raises InvalidBehavior for labels outside the vocabulary, InvalidTrace for logits that are not finite.
    """
    at_once = max(1, MOST_LOGITS // len(donor))
    parts = torch.split(hidden, at_once)
    return torch.cat([torch.stack(tuple(_columns(subject, part, labels, donor)), 1) for part in parts])


def _columns(
    subject: Subject, hidden: Float[Tensor, "run tail width"], labels: LabelTokens, donor: Float[Tensor, " token"]
) -> Iterator[Float[Tensor, " run"]]:
    rows = decision_logits(subject, hidden)
    decision = decision_of(subject, rows, hidden, labels)
    yield from decision[:3]
    own, others = rows.log_softmax(1), donor[None]
    yield divergence(others, own)
    middle = torch.logaddexp(others, own) - log(2)
    yield (divergence(others, middle) + divergence(own, middle)) / 2
    yield decision.rank
    yield decision.log_total


def divergence(of: Float[Tensor, "#run token"], by: Float[Tensor, "#run token"]) -> Float[Tensor, " _"]:
    """KL(of || by) in nats from log-probabilities; rounding below zero is zero."""
    return (of.exp() * (of - by)).sum(-1).clamp_min(0)
