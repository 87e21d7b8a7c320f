"""From the last residual stream to a decision value (METHOD.md section 1)."""

from contextlib import ExitStack
from typing import NamedTuple

import torch
from accelerate.utils import align_module_device
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from audit_service.domain.labels import LabelTokens
from audit_service.errors import InvalidBehavior, InvalidTrace
from workers.engine.hooks import instead
from workers.engine.subject import Subject

MOST_LOGITS = 1 << 24
"""Logits that are in memory at once (64 MiB in float32): a flight of short runs has more rows than that allows."""


class Decision(NamedTuple):
    """Decision values in float32 nats."""

    d: Float[Tensor, " run"]
    """logsumexp of the favorable labels' log-probabilities minus that of the unfavorable ones."""
    log_p_favorable: Float[Tensor, " run"]
    log_p_unfavorable: Float[Tensor, " run"]
    rank: Float[Tensor, " run"]
    """Place of the likeliest favorable label's first token among all tokens; 1 is the likeliest token of all."""
    log_total: Float[Tensor, " run"]
    """logsumexp of all logits: a log-probability plus this is a logit."""


def decision_logits(
    subject: Subject, hidden: Float[Tensor, "run tail width"], *, tokens: tuple[int, ...] | None = None
) -> Float[Tensor, "run token"]:
    """Logits of the decision in float32, of tokens or classes; all of them by default.

    The tail is the decision position and what stands behind it, or all positions in an encoder, whose own head reads
    them as it does in a plain forward: its layers only pass the given residual stream on.
    """
    anatomy = subject.anatomy
    if anatomy.flow.causal:
        return logits(subject, hidden[:, 0], tokens=tokens)
    passed = (hidden, None) if anatomy.gives_pair else hidden
    none = hidden.new_zeros(*hidden.shape[:2], subject.embeddings.embedding_dim)
    with ExitStack() as stack:
        for block in anatomy.blocks:
            stack.enter_context(instead(block.layer, lambda *_, **__: passed))
        found: Tensor = subject.model(inputs_embeds=none).logits.float()
    return found if tokens is None else found[:, list(tokens)]


def logits(subject: Subject, hidden: Float[Tensor, "row width"], *, tokens: tuple[int, ...] | None = None) -> Tensor:
    """Logits [row, token] in float32 from the residual stream behind the last layer; all tokens by default."""
    anatomy = subject.anatomy
    norm, head = anatomy.final_norm, anatomy.unembedding
    if norm is None or head is None:
        raise InvalidTrace(
            f"the head of {anatomy.family} classifiers reads no single positions", remedy="read the decision value"
        )
    normed = norm(hidden[None])[0]
    chosen = slice(None) if tokens is None else list(tokens)
    with align_module_device(head):  # its weights may be kept elsewhere until they are needed
        bias = None if head.bias is None else head.bias[chosen]
        weight = head.weight[chosen]
        raw = functional.linear(normed.to(weight.device), weight, bias).float().to(subject.device)
    raw = raw * anatomy.logit_scale
    cap = anatomy.logit_softcap
    return raw if cap is None else torch.tanh(raw / cap) * cap


@torch.inference_mode()
def decision_values(
    subject: Subject, hidden: Float[Tensor, "run tail width"], labels: LabelTokens
) -> Float[Tensor, " run"]:
    """Read d from the labels' rows of the unembedding alone; InvalidTrace if the model gives no finite number.

    The tail is the decision position and, for labels of several tokens, their beginnings in order
    (``LabelTokens.beginnings``), whose further tokens are normalised over the whole vocabulary.
    """
    check_labels(subject, labels)
    rows = decision_logits(subject, hidden, tokens=labels.firsts) + _further(subject, hidden, labels)
    split = len(labels.favorable)
    return _finite(rows[:, :split].logsumexp(1) - rows[:, split:].logsumexp(1))


@torch.inference_mode()
def full_decision(subject: Subject, hidden: Float[Tensor, "run tail width"], labels: LabelTokens) -> Decision:
    """Read d and the labels' log-probabilities over the whole vocabulary; InvalidTrace as above."""
    return decision_of(subject, decision_logits(subject, hidden), hidden, labels)


def decision_of(
    subject: Subject, rows: Float[Tensor, "run token"], hidden: Float[Tensor, "run tail width"], labels: LabelTokens
) -> Decision:
    """The same where the logits of the decision position are known already."""
    check_labels(subject, labels)
    whole = rows[:, list(labels.firsts)] + _further(subject, hidden, labels)
    split = len(labels.favorable)
    favorable, unfavorable, total = whole[:, :split].logsumexp(1), whole[:, split:].logsumexp(1), rows.logsumexp(1)
    best = rows[:, list(labels.firsts[:split])].amax(1, keepdim=True)
    rank = 1 + (rows > best).sum(1).float()
    return Decision(
        _finite(favorable - unfavorable), _finite(favorable - total), _finite(unfavorable - total), rank, total
    )


def _further(subject: Subject, hidden: Float[Tensor, "run tail width"], labels: LabelTokens) -> Tensor:
    """Log-probability [run, label] of what follows each label's first token; 0 for labels of one token."""
    found = hidden.new_zeros(len(hidden), len(labels.sequences), dtype=torch.float32)
    at_once = max(1, MOST_LOGITS // subject.anatomy.vocabulary)
    for row, beginning in enumerate(labels.beginnings[1:], start=1):
        going_on = [
            n for n, s in enumerate(labels.sequences) if len(s) > len(beginning) and s[: len(beginning)] == beginning
        ]
        tokens = [labels.sequences[number][len(beginning)] for number in going_on]
        parts = (logits(subject, part).log_softmax(1)[:, tokens] for part in torch.split(hidden[:, row], at_once))
        found[:, going_on] += torch.cat(list(parts))
    return found


def check_labels(subject: Subject, labels: LabelTokens) -> None:
    """Raise InvalidBehavior if a label stands outside the model's vocabulary, or a class has several tokens."""
    size = subject.anatomy.vocabulary
    if subject.anatomy.classifies and len(labels.beginnings) > 1:
        raise InvalidBehavior("a classifier answers with classes, not with sequences", remedy="name its classes")
    outside = [token for sequence in labels.sequences for token in sequence if not 0 <= token < size]
    if outside:
        raise InvalidBehavior(
            f"label tokens {outside} lie outside the model's vocabulary of {size}",
            remedy="use the tokenizer that belongs to this model",
        )


def _finite(values: Tensor) -> Tensor:
    if not torch.isfinite(values).all():
        raise InvalidTrace(
            "the model's logits are not finite numbers", remedy="load it in float32 or bfloat16, or check its weights"
        )
    return values
