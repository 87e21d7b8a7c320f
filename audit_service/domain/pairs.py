"""Prompt pairs that differ only in a protected-attribute cue, and how they are made and read."""

import hashlib
from enum import StrEnum
from functools import cached_property
from typing import Self

from pydantic import Field, model_validator

from audit_service.domain.behaviors import FormKind
from audit_service.domain.manifest import Frozen, canonical_json, digest
from audit_service.domain.provenance import Provenance


class PairKind(StrEnum):
    CONTRAST = "contrast"
    """Reference group against comparison group."""
    PLACEBO = "placebo"
    """Two cues of one group: what the measurement moves by when nothing protected changes."""


class Side(StrEnum):
    REFERENCE = "reference"
    COMPARISON = "comparison"


class Segment(Frozen):
    """A declared stretch of the prompt, as it reads on either side; equal on both unless it is a cue."""

    name: str = Field(min_length=1)
    reference: str
    comparison: str

    @property
    def is_cue(self) -> bool:
        return self.reference != self.comparison

    def text(self, side: Side) -> str:
        return self.reference if side is Side.REFERENCE else self.comparison


class Pair(Frozen):
    """Two prompts, segment by segment. The decision position is the last token of the rendered prompt."""

    id: str = Field(min_length=1)
    kind: PairKind
    form: str
    form_kind: FormKind
    system: str | None = None
    attribute: str
    reference_group: str
    comparison_group: str
    """Equal to the reference group in a placebo pair."""
    template: str
    profile: str
    reference_cue: str
    comparison_cue: str
    cluster: str
    """Unit of resampling: template x cue pair. Profiles of one cluster are not independent of each other."""
    segments: tuple[Segment, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_difference(self) -> Self:
        if not any(segment.is_cue for segment in self.segments):
            raise ValueError("the two prompts are equal: nothing is compared")
        names = [segment.name for segment in self.segments]
        if len(set(names)) != len(names) or "decision" in names:
            raise ValueError(f"segment names must be different and not 'decision': {names}")
        if (self.kind is PairKind.PLACEBO) != (self.reference_group == self.comparison_group):
            raise ValueError("a placebo pair has one group on both sides, a contrast pair two")
        return self

    def text(self, side: Side) -> str:
        """The prompt before any chat template."""
        return "".join(segment.text(side) for segment in self.segments)


class PairSet(Frozen):
    """Pairs with a name and a hash. Independent of any model: chat templates are applied when it is traced."""

    name: str
    pairs: tuple[Pair, ...] = Field(min_length=1)
    provenance: Provenance | None = None
    """Where imported pairs came from; none for pairs that were generated or written by hand."""

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        ids = [pair.id for pair in self.pairs]
        if len(set(ids)) != len(ids):
            raise ValueError(f"pair ids repeat: {sorted({i for i in ids if ids.count(i) > 1})[:5]}")
        return self

    @cached_property
    def digest(self) -> str:
        # Without provenance the digest is that of name and pairs alone.
        return digest(self.model_dump(mode="json", exclude={"provenance"} if self.provenance is None else None))


class SetDigest:
    """The digest of a set whose pairs come one after the other: that of the same ``PairSet``."""

    def __init__(self, name: str) -> None:
        # The canonical JSON's keys are sorted: name, pairs, provenance.
        self._hash = hashlib.sha256(b'{"name":%b,"pairs":[' % canonical_json(name))
        self.count = 0

    def add(self, pair: bytes) -> None:
        """The next pair's canonical JSON."""
        self._hash.update(b"," + pair if self.count else pair)
        self.count += 1

    def finish(self, provenance: Provenance | None) -> str:
        """SHA-256, in hex. Nothing can be added afterwards."""
        self._hash.update(b"]}" if provenance is None else b'],"provenance":%b}' % canonical_json(provenance))
        return self._hash.hexdigest()
