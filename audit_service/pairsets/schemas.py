"""Pair sets, pairs and previews as they come in and go out."""

from datetime import datetime

from audit_service.border.schemas import Answer, Uuid
from audit_service.domain.lifecycle import PreviewState
from audit_service.domain.manifest import Frozen
from audit_service.domain.preview import Preview
from audit_service.domain.provenance import Provenance


class PairSetGenerate(Frozen):
    """Pairs generated from a behavior's templates, profiles and cues."""

    behavior_version_id: Uuid


class PairSet(Answer):
    id: str
    name: str
    digest: str
    """SHA-256 over all pairs in their order."""
    count: int
    """Number of pairs, placebo pairs included."""
    behavior_version_id: str | None
    """The behavior it was generated from; null for an upload."""
    provenance: Provenance | None
    """Where imported pairs came from."""
    created_at: datetime


class PreviewCreate(Frozen):
    """What to preview the pair set on."""

    model_version_id: Uuid
    behavior_version_id: Uuid
    """Its labels are looked for among the model's answers."""


class PreviewRecord(Answer):
    """Whether the pairs' tokens align and whether the model answers with the labels, before anything is planned."""

    id: str
    pair_set_id: str
    model_version_id: str
    behavior_version_id: str
    state: PreviewState
    reason: str | None
    """Why it failed, with the remedy."""
    content: Preview | None
    """Null until it is done."""
    created_at: datetime
