"""From words to token positions: prompts, their segments, and the labels."""

from collections.abc import Mapping as MappingABC
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from audit_service.domain.beginnings import first_difference
from audit_service.domain.behaviors import FormKind, Labels
from audit_service.domain.labels import LabelTokens, class_numbers, label_tokens
from audit_service.domain.pairs import Pair, Side
from audit_service.domain.sites import DECISION
from audit_service.errors import InvalidPairs
from workers.engine.subject import Subject


class EncodedPrompt(NamedTuple):
    """One side of a pair as the model receives it."""

    ids: tuple[int, ...]
    spans: MappingABC[str, tuple[int, ...]]
    """Segment → its token positions, ascending; every position stands in one segment, the last in "decision"."""


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Both prompts of a pair; clean is the reference side, corrupt the comparison side."""

    id: str
    clean: EncodedPrompt
    corrupt: EncodedPrompt

    @property
    def clean_ids(self) -> tuple[int, ...]:
        return self.clean.ids

    @property
    def corrupt_ids(self) -> tuple[int, ...]:
        return self.corrupt.ids

    @property
    def cues(self) -> tuple[str, ...]:
        """Segments whose tokens differ between the sides."""
        tokens = [
            {name: [side.ids[at] for at in span] for name, span in side.spans.items()}
            for side in (self.clean, self.corrupt)
        ]
        return tuple(name for name in self.clean.spans if tokens[0][name] != tokens[1][name])

    @property
    def first_difference(self) -> int:
        """First position whose tokens differ; what stands before it is the same computation on both sides."""
        return first_difference(self.clean.ids, self.corrupt.ids)

    @property
    def equal_spans(self) -> bool:
        """Whether each segment has as many tokens on one side as on the other."""
        return all(len(self.clean.spans[name]) == len(self.corrupt.spans[name]) for name in self.clean.spans)


def encode_pair(tokenizer: PreTrainedTokenizerBase, pair: Pair, *, first_decides: bool = False) -> EncodedPair:
    """Tokenize both sides of a pair and find the tokens of each segment.

    The decision is the last token, or the first one, which an encoder puts in front for its head to read.

    Raises InvalidPairs if a side cannot be rendered, a segment is left without any token, or the two sides have equal
    tokens (the cue is invisible to this tokenizer).
    """
    sides = (Side.REFERENCE, Side.COMPARISON)
    clean, corrupt = (_encode_side(tokenizer, pair, side, first_decides=first_decides) for side in sides)
    if clean.ids == corrupt.ids:
        raise InvalidPairs(
            f"pair {pair.id}: both sides have the same tokens, so the cue is invisible to this model",
            remedy="check the cues against the model's tokenizer",
        )
    return EncodedPair(pair.id, clean, corrupt)


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str, *, add_special_tokens: bool) -> tuple[int, ...]:
    """Token ids of a text exactly as given; InvalidPairs if there are none."""
    ids = tuple(tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])
    if not ids:
        raise InvalidPairs(f"the text {text!r} has no tokens", remedy="give a text that is not empty")
    return ids


def labels_of(subject: Subject, labels: Labels) -> LabelTokens:
    """What the model's logits are read at: the labels' tokens, or the classes that they name."""
    if not subject.anatomy.classifies:
        return encode_labels(subject.tokenizer, labels)
    named = subject.model.config.id2label or {}
    return class_numbers([name for _, name in sorted((int(number), name) for number, name in named.items())], labels)


def prompts_of(subject: Subject, pair: Pair) -> EncodedPair:
    """The pair as this model receives it."""
    return encode_pair(subject.tokenizer, pair, first_decides=not subject.anatomy.flow.causal)


def encode_labels(tokenizer: PreTrainedTokenizerBase, labels: Labels) -> LabelTokens:
    """Token ids of both labels; InvalidBehavior for spellings that the tokenizer does not know, or that collide."""

    def encode(spelling: str) -> list[int]:
        ids: list[int] = tokenizer(spelling, add_special_tokens=False)["input_ids"]
        return ids

    return label_tokens(encode, labels, unknown=tokenizer.unk_token_id)


def _encode_side(tokenizer: PreTrainedTokenizerBase, pair: Pair, side: Side, *, first_decides: bool) -> EncodedPrompt:
    text, start = pair.text(side), 0
    rendered = text
    if pair.form_kind is FormKind.CHAT:
        rendered = _render_chat(tokenizer, pair, text)
        text, start = _find_message(rendered, text, pair.id)
    lengths = _segment_lengths(pair, side, text)
    edges = [start + edge for edge in accumulate(lengths, initial=0)]
    encoding = tokenizer(
        rendered, add_special_tokens=pair.form_kind is FormKind.TEXT, return_offsets_mapping=True, verbose=False
    )
    ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
    if first_decides:
        if not ids or offsets[0][1] != 0:
            raise InvalidPairs(
                f"pair {pair.id}: the tokenizer puts no token of its own in front, so there is no decision position",
                remedy="use the tokenizer that the encoder was trained with",
            )
        return EncodedPrompt(tuple(ids), {**_spans(pair, edges, offsets[1:], first=1), DECISION: (0,)})
    if ids and pair.form_kind is FormKind.TEXT and offsets[-1][1] == 0:
        raise InvalidPairs(
            f"pair {pair.id}: the tokenizer appends {tokenizer.convert_ids_to_tokens(ids[-1])!r} after the prompt, "
            "so the last token is no decision position",
            remedy="use a decoder whose tokenizer appends nothing",
        )
    return EncodedPrompt(tuple(ids), {**_spans(pair, edges, offsets[:-1]), DECISION: (len(ids) - 1,)})


def _render_chat(tokenizer: PreTrainedTokenizerBase, pair: Pair, text: str) -> str:
    if tokenizer.chat_template is None:
        raise InvalidPairs(
            f"pair {pair.id} has the chat form {pair.form!r}, but this model has no chat template",
            remedy="leave the chat form out of the behavior, or register the model with its chat template",
        )
    system = [] if pair.system is None else [{"role": "system", "content": pair.system}]
    messages = [*system, {"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _find_message(rendered: str, text: str, pair_id: str) -> tuple[str, int]:
    """The user message inside the rendered prompt, and where it starts; templates may strip its outer white space."""
    for candidate in (text, text.strip()):
        if rendered.count(candidate) == 1:
            return candidate, rendered.index(candidate)
    raise InvalidPairs(
        f"pair {pair_id}: the chat template does not carry the user message exactly once and unchanged",
        remedy="use the text form for this model, or a template that leaves the message as it is",
    )


def _segment_lengths(pair: Pair, side: Side, text: str) -> list[int]:
    """Characters of each segment in the text that the model really sees, which may be stripped at both ends."""
    whole = pair.text(side)
    left = whole.index(text)
    edges = [
        min(max(edge - left, 0), len(text))
        for edge in accumulate((len(s.text(side)) for s in pair.segments), initial=0)
    ]
    return [end - start for start, end in pairwise(edges)]


def _spans(
    pair: Pair, edges: list[int], offsets: list[tuple[int, int]], *, first: int = 0
) -> dict[str, tuple[int, ...]]:
    """Positions of each segment, of tokens that are counted from ``first``.

    A token that touches a cue's characters belongs to the cue, any other to the segment of its first character; one
    that stands for no characters to the segment before it.
    """
    cues = [(edges[i], edges[i + 1], segment.name) for i, segment in enumerate(pair.segments) if segment.is_cue]
    spans: dict[str, list[int]] = {segment.name: [] for segment in pair.segments}
    name = pair.segments[0].name
    for position, (start, end) in enumerate(offsets, start=first):
        if end > start:
            touched = [cue for low, high, cue in cues if start < high and end > low]
            inside = [segment.name for i, segment in enumerate(pair.segments) if start >= edges[i]]
            name = touched[0] if touched else (inside or [pair.segments[0].name])[-1]
        spans[name].append(position)
    return {name: tuple(positions) for name, positions in spans.items()}
