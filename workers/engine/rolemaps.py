"""Where a task's answer is carried: exact effects by layer and role of the token, and by head, over many pairs."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit_service.domain.behaviors import Labels
from audit_service.domain.circuittasks import TaskPair
from audit_service.domain.labels import LabelTokens, label_tokens
from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidPairs, InvalidTrace
from workers.engine.answers import unpatched
from workers.engine.donors import record
from workers.engine.patching import patch
from workers.engine.positions import Exchange
from workers.engine.progress import Keep, Progress, StopCheck, keep_nothing, never_stop, no_progress
from workers.engine.subject import Subject

END = "end"
"""Role of the last token."""


class EncodedTask(NamedTuple):
    """A pair as the model receives it."""

    clean: tuple[int, ...]
    corrupt: tuple[int, ...]
    labels: LabelTokens
    roles: dict[str, int]
    """Role → position of the last token of its word, in prompt order; the last token is "end"."""


class RoleMaps(NamedTuple):
    """Shares of the whole difference that single exchanges bring, as ratios of sums over pairs."""

    roles: tuple[str, ...]
    residual: NDArray[np.float64]
    """[layer, role] clean residual stream before the layer put into the corrupt run at that token."""
    heads: NDArray[np.float64]
    """[layer, head] clean head output put into the corrupt run at all positions."""
    d_clean: NDArray[np.float64]
    """[pair] in nats."""
    d_corrupt: NDArray[np.float64]


def encode_task(subject: Subject, pair: TaskPair) -> EncodedTask:
    """Tokenize a pair; InvalidPairs unless its prompts differ and have equally many tokens."""

    def encode(text: str) -> list[int]:
        ids: list[int] = subject.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    encoding = subject.tokenizer(pair.clean, return_offsets_mapping=True)
    clean, corrupt = tuple(encoding["input_ids"]), tuple(subject.tokenizer(pair.corrupt)["input_ids"])
    if len(clean) != len(corrupt) or clean == corrupt:
        raise InvalidPairs(
            f"{pair.clean!r} and {pair.corrupt!r} have {len(clean)} and {len(corrupt)} tokens"
            + (" and are the same" if clean == corrupt else ""),
            remedy="use words of equally many tokens in this model's tokenizer",
        )
    roles = {}
    for mark in pair.marks:
        touching = [
            n for n, (start, end) in enumerate(encoding["offset_mapping"]) if start < mark.end and end > mark.start
        ]
        roles[mark.role] = touching[-1]
    labels = label_tokens(
        encode,
        Labels(favorable=pair.favorable, unfavorable=pair.unfavorable),
        unknown=subject.tokenizer.unk_token_id,
    )
    return EncodedTask(clean, corrupt, labels, {**roles, END: len(clean) - 1})


def role_maps(
    subject: Subject,
    pairs: Sequence[EncodedTask],
    *,
    keep: Keep = keep_nothing,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> RoleMaps:
    """Patch every layer at every role, and every head, of each pair, from the clean into the corrupt run.

    Raises InvalidTrace if the pairs' roles differ or their answers do not.
    """
    roles = tuple(sorted(pairs[0].roles, key=lambda role: pairs[0].roles[role]))
    if any(set(pair.roles) != set(roles) for pair in pairs):
        raise InvalidTrace("the pairs have different roles", remedy="use the same slots in all templates")
    layers, heads = subject.anatomy.layers, subject.anatomy.heads
    gained = np.zeros(layers * (len(roles) + heads))
    ends = np.zeros((len(pairs), 2))
    for number, pair in enumerate(pairs):
        found = keep(f"maps.{number}", partial(_patched, subject, pair, roles, should_stop))
        ends[number], patched = found[:2], found[2:]
        gained += patched - ends[number, 1]
        progress(number + 1, len(pairs), 0.0)
    whole = float((ends[:, 0] - ends[:, 1]).sum())
    if abs(whole) < 1e-6 * len(pairs):
        raise InvalidTrace("the model answers both prompts alike", remedy="use a task that this model can do")
    residual, by_head = np.split(gained / whole, [layers * len(roles)])
    return RoleMaps(roles, residual.reshape(layers, -1), by_head.reshape(layers, -1), ends[:, 0], ends[:, 1])


def _patched(subject: Subject, pair: EncodedTask, roles: Sequence[str], should_stop: StopCheck) -> NDArray[np.float32]:
    """D of the clean and of the corrupt prompt, then of each patched run."""
    clean, corrupt = (record(subject, ids, should_stop=should_stop) for ids in (pair.clean, pair.corrupt))
    ends = [float(unpatched(subject, [one], pair.labels)) for one in (clean, corrupt)]
    cells = _cells(pair, roles, subject.anatomy.layers, subject.anatomy.heads)
    patched = patch(subject, corrupt, clean, cells, labels=pair.labels, should_stop=should_stop)
    return np.concatenate([np.array(ends, np.float32), patched])


def _cells(pair: EncodedTask, roles: Sequence[str], layers: int, heads: int) -> list[Exchange]:
    everywhere = tuple(range(len(pair.clean)))
    stream = [
        Exchange(SiteKind.RESID_PRE, layer, None, (pair.roles[role],), (pair.roles[role],))
        for layer in range(layers)
        for role in roles
    ]
    return stream + [
        Exchange(SiteKind.Z, layer, head, everywhere, everywhere) for layer in range(layers) for head in range(heads)
    ]
