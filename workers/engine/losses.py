"""What a patched run predicts at every position: the log-probability of each next token of the prompt."""

from collections.abc import Sequence
from functools import partial
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from audit_service.errors import InvalidTrace
from workers.engine.donors import Recording
from workers.engine.flight import Flight
from workers.engine.memory import in_halves
from workers.engine.patching import in_flights
from workers.engine.placing import Placed, place_all
from workers.engine.positions import Exchange
from workers.engine.progress import StopCheck, never_stop
from workers.engine.readout import MOST_LOGITS, logits
from workers.engine.runs import Group
from workers.engine.subject import Subject


def next_token_log_p(
    subject: Subject,
    recipient: Recording,
    donor: Recording,
    sets: Sequence[Sequence[Exchange]],
    *,
    skip_equal: bool = True,
    should_stop: StopCheck = never_stop,
) -> NDArray[np.float32]:
    """Log-probability [set, position - 1] of each token but the first, given those before it, in nats.

    Each row is the recipient's run with all exchanges of one set made at once; the loss of METHOD.md section 8 is its
    negative mean. Raises InvalidTrace for a classifier.
    """
    if subject.anatomy.classifies:
        raise InvalidTrace("a classifier predicts no next tokens", remedy="read its decision value")
    own = _log_p(subject, recipient.resid[-1][None], recipient.entry.ids)
    table = own.repeat(len(sets), 1)
    anatomy = subject.anatomy
    todo = place_all(anatomy, sets, recipient, donor, skip_equal=skip_equal, everywhere=True)
    for start, members in groupby(todo, key=lambda p: p.start):
        for flown in in_flights(subject, list(members), recipient.length):
            found = in_halves(flown, partial(_read, subject, recipient, donor, should_stop=should_stop))
            for p, row in zip(flown, found, strict=True):
                table[list(p.cells), start:] = row
    return table.cpu().numpy()


def _read(
    subject: Subject, recipient: Recording, donor: Recording, flown: Sequence[Placed], *, should_stop: StopCheck
) -> Float[Tensor, "run next"]:
    """What runs of one start predict."""
    start, runs = flown[0].start, tuple(p.run(recipient, donor) for p in flown)
    group = Group(recipient.entry, start, recipient.prefixes(start), runs, tails=recipient.length - start)
    return _log_p(subject, Flight(subject, [group]).run(should_stop=should_stop), recipient.entry.ids[start:])


@torch.inference_mode()
def _log_p(
    subject: Subject, hidden: Float[Tensor, "run position width"], ids: Sequence[int]
) -> Float[Tensor, "run next"]:
    """Log-probability of every token behind the first of these positions."""
    runs, positions, width = hidden.shape
    rows = hidden[:, :-1].reshape(-1, width)
    wanted = torch.tensor(ids[1:], device=hidden.device).repeat(runs)
    at_once = max(1, MOST_LOGITS // subject.anatomy.vocabulary)
    parts = zip(torch.split(rows, at_once), torch.split(wanted, at_once), strict=True)
    found = [logits(subject, part).log_softmax(1).gather(1, tokens[:, None])[:, 0] for part, tokens in parts]
    return torch.cat(found or [rows.new_empty(0, dtype=torch.float32)]).view(runs, positions - 1)
