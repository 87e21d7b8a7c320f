"""The labels' tokens behind a prompt, so that whole labels can be read from one run.

A label of several tokens is as likely as its tokens are, one after another (teacher-forced). The beginnings of all
labels stand behind the prompt as a tree: each row sees the prompt and its own beginning, never another label, and what
labels share is computed once. Labels of one token need no row but the prompt's last.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from audit_service.domain.labels import LabelTokens, Tokens
from audit_service.errors import InvalidModel
from workers.engine.attention import Heads
from workers.engine.donors import Recording
from workers.engine.entry import Entry, LayerCall, enter, join_positions, take_positions
from workers.engine.flight import Flight, Group, Run, Tap
from workers.engine.loading import Subject
from workers.engine.progress import StopCheck, never_stop
from workers.engine.readout import decision_values


def answered_entry(subject: Subject, entry: Entry, labels: LabelTokens) -> Entry:
    """The prompt with the labels' beginnings behind it; the same entry where labels are single tokens.

    Raises InvalidPairs if prompt and label exceed the model's context, InvalidModel if the model treats the prompt
    differently when tokens follow.
    """
    rows = labels.beginnings[1:]
    if not rows:
        return entry
    longest = [row for row in rows if not any(other[: len(row)] == row for other in rows if other != row)]
    entered = {row: enter(subject, entry.ids + row) for row in longest}
    behind = [(row, next(entered[whole] for whole in longest if whole[: len(row)] == row)) for row in rows]
    built: dict[int, LayerCall] = {}
    for layer, call in enumerate(entry.calls):
        if id(call) not in built:
            built[id(call)] = _tree_call(call, [(row, long.calls[layer]) for row, long in behind])
    at = len(entry.ids) - 1
    return Entry(
        ids=entry.ids + tuple(row[-1] for row in rows),
        hidden=torch.cat([entry.hidden, *(long.hidden[at + len(row)][None] for row, long in behind)]),
        calls=tuple(built[id(call)] for call in entry.calls),
    )


def _tree_call(call: LayerCall, behind: Sequence[tuple[Tokens, LayerCall]]) -> LayerCall:
    """What a layer is told of the prompt and of the rows behind it, each given with a prompt that ends in it."""
    length, rows = len(call.mask), [row for row, _ in behind]
    mask = call.mask.new_full((length + len(rows),) * 2, torch.finfo(call.mask.dtype).min)
    mask[:length, :length] = call.mask
    prompt = torch.arange(length, device=mask.device)
    for number, (row, long) in enumerate(behind):
        _require_same_prompt(call, long, prompt)
        told = long.mask[length + len(row) - 1]
        mask[length + number, :length] = told[:length]
        for end in range(1, len(row) + 1):
            mask[length + number, length + rows.index(row[:end])] = told[length + end - 1]
    by_position = {
        name: join_positions(
            [value, *(take_positions(long.by_position[name], _at(prompt, row)) for row, long in behind)]
        )
        for name, value in call.by_position.items()
    }
    return replace(call, mask=mask, by_position=by_position)


def _at(prompt: Tensor, row: Tokens) -> Tensor:
    return prompt.new_tensor([len(prompt) + len(row) - 1])


def _require_same_prompt(call: LayerCall, long: LayerCall, prompt: Tensor) -> None:
    """Refuse position encodings that look at the length of the whole text."""
    same = torch.equal(call.mask, long.mask[: len(prompt), : len(prompt)]) and call.constant == long.constant
    if not same or not all(_equal(v, take_positions(long.by_position[n], prompt)) for n, v in call.by_position.items()):
        raise InvalidModel(
            "the model encodes the prompt's positions otherwise when a label stands behind it",
            remedy="declare labels of one token each, or use a shorter prompt",
        )


def _equal(one: Any, other: Any) -> bool:  # noqa: ANN401 - tensors, possibly in tuples
    if isinstance(one, tuple):
        return all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return torch.equal(one, other)


def answered(
    subject: Subject, recording: Recording, labels: LabelTokens, *, should_stop: StopCheck = never_stop
) -> Recording:
    """The recording with the labels' beginnings behind the prompt, in the residual stream and inside attention."""
    entry = answered_entry(subject, recording.entry, labels)
    if entry is recording.entry:
        return recording
    start, tap = recording.length, Tap()
    run = Run(0, entry.hidden[start:], ())
    Flight(subject, [Group(entry, start, recording.prefixes(start), (run,), tails=len(run.rows))], tap=tap).run(
        should_stop=should_stop
    )
    return replace(
        recording,
        entry=entry,
        resid=[torch.cat(parts) for parts in zip(recording.resid, tap.resid, strict=True)],
        heads=[_joined(*parts) for parts in zip(recording.heads, tap.heads, strict=True)],
    )


def _joined(one: Heads, other: Heads) -> Heads:
    query, key, value = (torch.cat(parts, dim=1) for parts in zip(one[:3], other[:3], strict=True))
    return one._replace(query=query, key=key, value=value)


def tails(recording: Recording, labels: LabelTokens) -> Float[Tensor, "tail width"]:
    """The rows behind the last layer from which an answered recording's labels are read."""
    return recording.resid[-1][-len(labels.beginnings) :]


@torch.inference_mode()
def unpatched(subject: Subject, recordings: Sequence[Recording], labels: LabelTokens) -> Float[Tensor, " recording"]:
    """Decision values of recorded prompts, in nats."""
    rows = [tails(answered(subject, recording, labels), labels) for recording in recordings]
    return decision_values(subject, torch.stack(rows), labels)
