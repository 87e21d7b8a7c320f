"""The labels' tokens behind a prompt, so that whole labels can be read from one run.

A label of several tokens is as likely as its tokens are, one after another (teacher-forced). The beginnings of all
labels stand behind the prompt as a tree: each row sees the prompt and its own beginning, never another label, and what
labels share is computed once. Labels of one token need no row but the prompt's last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from audit_service.domain.labels import LabelTokens, Tokens
from audit_service.errors import InvalidModel
from workers.engine.attention import Heads
from workers.engine.donors import Recording, record_entry
from workers.engine.entry import Entry, LayerCall, enter, join_positions, same_told, take_positions
from workers.engine.flight import Flight
from workers.engine.progress import StopCheck, never_stop
from workers.engine.readout import decision_values
from workers.engine.runs import Group, Run, Tap
from workers.engine.subject import Subject


class AnsweredEntry(NamedTuple):
    """A prompt with beginnings of labels behind it."""

    entry: Entry
    rows: tuple[int, ...]
    """What its last rows are read for: numbers of ``LabelTokens.beginnings``; in an encoder, all its positions."""


class Answered(NamedTuple):
    """A recorded prompt with beginnings of labels behind it, in the residual stream and inside attention."""

    recording: Recording
    rows: tuple[int, ...]
    """As in AnsweredEntry."""


def answered_entries(subject: Subject, entry: Entry, labels: LabelTokens) -> list[AnsweredEntry]:
    """The prompt with all of the labels' beginnings behind it: at once as a tree, or one by one as plain text.

    One by one where the family attends by its own means; the prompt as it is where labels are single tokens or classes.
    Raises InvalidPairs if prompt and label exceed the model's context, InvalidModel if the model treats the prompt
    differently when tokens follow.
    """
    flow, rows = subject.anatomy.flow, labels.beginnings
    if not flow.causal:
        return [AnsweredEntry(entry, tuple(range(len(entry.ids))))]
    if len(rows) == 1:
        return [AnsweredEntry(entry, (0,))]
    longest = [row for row in rows if not any(other[: len(row)] == row for other in rows if other != row)]
    entered = {row: enter(subject, entry.ids + row) for row in longest}
    if flow.packs:
        return [AnsweredEntry(_tree(entry, rows[1:], entered), tuple(range(len(rows))))]
    return [
        AnsweredEntry(
            replace(long, hidden=torch.cat((entry.hidden, long.hidden[len(entry.ids) :]))),
            tuple(rows.index(row[:end]) for end in range(len(row) + 1)),
        )
        for row, long in entered.items()
    ]


def _tree(entry: Entry, rows: Sequence[Tokens], entered: Mapping[Tokens, Entry]) -> Entry:
    """The prompt with all rows behind it; the longest of them have been entered with it as plain text."""
    behind = [(row, next(entered[whole] for whole in entered if whole[: len(row)] == row)) for row in rows]
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
    mask = call.mask.new_zeros((length + len(rows),) * 2)
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
    if not same or not all(
        same_told(v, take_positions(long.by_position[n], prompt)) for n, v in call.by_position.items()
    ):
        raise InvalidModel(
            "the model encodes the prompt's positions otherwise when a label stands behind it",
            remedy="declare labels of one token each, or use a shorter prompt",
        )


def answered(
    subject: Subject, recording: Recording, labels: LabelTokens, *, should_stop: StopCheck = never_stop
) -> list[Answered]:
    """The recorded prompt in front of the labels' beginnings, as ``answered_entries`` divides them."""
    return [
        Answered(_recorded(subject, recording, entry, should_stop), rows)
        for entry, rows in answered_entries(subject, recording.entry, labels)
    ]


def _recorded(subject: Subject, recording: Recording, entry: Entry, should_stop: StopCheck) -> Recording:
    if entry is recording.entry:
        return recording
    if not subject.anatomy.flow.packs:
        return record_entry(subject, entry, should_stop=should_stop)
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


def gather(
    parts: Sequence[Float[Tensor, "run _ width"]], rows: Sequence[tuple[int, ...]]
) -> Float[Tensor, "run tail width"]:
    """Rows behind the last layer in the order of their numbers, from flights that each computed some."""
    first = parts[0]
    whole = first.new_empty(len(first), 1 + max(max(numbers) for numbers in rows), first.shape[2])
    for part, numbers in zip(parts, rows, strict=True):
        whole[:, list(numbers)] = part[:, -len(numbers) :]
    return whole


def tails(answers: Sequence[Answered]) -> Float[Tensor, "run tail width"]:
    """The rows of one unpatched run from which its decision is read."""
    return gather([one.recording.resid[-1][None] for one in answers], [one.rows for one in answers])


@torch.inference_mode()
def unpatched(subject: Subject, recordings: Sequence[Recording], labels: LabelTokens) -> Float[Tensor, " recording"]:
    """Decision values of recorded prompts, in nats."""
    rows = [tails(answered(subject, recording, labels)) for recording in recordings]
    if len({one.shape for one in rows}) == 1:
        return decision_values(subject, torch.cat(rows), labels)
    return torch.cat([decision_values(subject, one, labels) for one in rows])
