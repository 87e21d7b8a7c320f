"""The logit lens: what the model would answer if it stopped thinking at a layer (nostalgebraist 2020).

The residual stream at a layer's start goes straight through the last normalisation and the unembedding. It is a way of
looking, not an intervention: nothing causal follows from it.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit_service.domain.labels import LabelTokens
from workers.engine.donors import Recording
from workers.engine.readout import MOST_LOGITS, check_labels, logits
from workers.engine.subject import Subject


class Lens(NamedTuple):
    """What each layer's stream says at each position; the last of the layers + 1 rows is the model's own output."""

    d: NDArray[np.float32]
    """[layer + 1, position] log-odds of the labels' first tokens, in nats."""
    token: NDArray[np.int64]
    """[layer + 1, position] likeliest token."""
    log_p: NDArray[np.float32]
    """[layer + 1, position] its log-probability."""


@torch.inference_mode()
def look(subject: Subject, recording: Recording, labels: LabelTokens) -> Lens:
    """Read every kept residual stream of a recording as if it were the last."""
    check_labels(subject, labels)
    at_once = max(1, MOST_LOGITS // subject.anatomy.vocabulary)
    rows = [
        torch.cat([_look(logits(subject, part), labels) for part in torch.split(stream, at_once)])
        for stream in recording.resid
    ]
    d, token, log_p = torch.stack(rows).permute(2, 0, 1).cpu().numpy()
    return Lens(d.astype(np.float32), token.astype(np.int64), log_p.astype(np.float32))


def _look(rows: Tensor, labels: LabelTokens) -> Tensor:
    """[position, (d, token, log_p)] in float64, which holds token ids exactly."""
    first, split = list(labels.firsts), len(labels.favorable)
    d = rows[:, first[:split]].logsumexp(1) - rows[:, first[split:]].logsumexp(1)
    best, token = rows.log_softmax(1).max(1)
    return torch.stack((d.double(), token.double(), best.double()), dim=1)
