"""From the last residual stream to a decision value (METHOD.md section 1)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from audit_service.domain.labels import LabelTokens
from audit_service.errors import InvalidBehavior, InvalidTrace
from workers.engine.loading import Subject


class Decision(NamedTuple):
    """Decision values in float32 nats."""

    d: Float[Tensor, " prompt"]
    """logsumexp of the favorable labels' logits minus that of the unfavorable ones."""
    log_p_favorable: Float[Tensor, " prompt"]
    log_p_unfavorable: Float[Tensor, " prompt"]


def logits(subject: Subject, hidden: Float[Tensor, "prompt width"], *, tokens: tuple[int, ...] | None = None) -> Tensor:
    """Logits [prompt, token] in float32 from the residual stream behind the last layer; all tokens by default."""
    anatomy = subject.anatomy
    normed = anatomy.final_norm(hidden[None])[0]
    head = anatomy.unembedding
    chosen = slice(None) if tokens is None else list(tokens)
    bias = None if head.bias is None else head.bias[chosen]
    raw = functional.linear(normed, head.weight[chosen], bias).float()
    cap = anatomy.logit_softcap
    return raw if cap is None else torch.tanh(raw / cap) * cap


@torch.inference_mode()
def decision_values(
    subject: Subject, hidden: Float[Tensor, "prompt width"], labels: LabelTokens
) -> Float[Tensor, " prompt"]:
    """Read d from the labels' rows of the unembedding alone; InvalidTrace if the model gives no finite number."""
    check_labels(subject, labels)
    rows = logits(subject, hidden, tokens=labels.favorable + labels.unfavorable)
    split = len(labels.favorable)
    return _finite(rows[:, :split].logsumexp(1) - rows[:, split:].logsumexp(1))


@torch.inference_mode()
def full_decision(subject: Subject, hidden: Float[Tensor, "prompt width"], labels: LabelTokens) -> Decision:
    """Read d and the labels' log-probabilities over the whole vocabulary; InvalidTrace as above."""
    check_labels(subject, labels)
    return decision_of(logits(subject, hidden), labels)


def decision_of(rows: Float[Tensor, "prompt token"], labels: LabelTokens) -> Decision:
    """The same from the logits of all tokens."""
    favorable = rows[:, list(labels.favorable)].logsumexp(1)
    unfavorable = rows[:, list(labels.unfavorable)].logsumexp(1)
    total = rows.logsumexp(1)
    return Decision(_finite(favorable - unfavorable), _finite(favorable - total), _finite(unfavorable - total))


def check_labels(subject: Subject, labels: LabelTokens) -> None:
    """Raise InvalidBehavior if a label stands outside the model's vocabulary."""
    size = subject.anatomy.vocabulary
    outside = [token for token in labels.favorable + labels.unfavorable if not 0 <= token < size]
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
