"""Storing pair sets, and asking for their preview."""

from collections.abc import Iterable
from typing import IO

from audit_service import dispatch
from audit_service.behaviors import service as behaviors
from audit_service.db import locks
from audit_service.db.base import Ensured
from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.tables import PairSetRow, PreviewRow
from audit_service.domain.generation import generate
from audit_service.domain.lifecycle import PreviewState
from audit_service.domain.pairfiles import read_pairs
from audit_service.domain.pairreaders import PairFormat
from audit_service.domain.pairs import Pair
from audit_service.domain.provenance import Provenance
from audit_service.errors import NotFound
from audit_service.pairsets import repository
from audit_service.pairsets.schemas import PairSetGenerate, PreviewCreate
from audit_service.registry import service as registry


def upload(session: WriteSession, file: IO[bytes], *, name: str, file_format: PairFormat) -> Ensured[PairSetRow]:
    """The pair set of a file, which is read row by row; equal pairs under an equal name give the set that is there.

    Raises:
        InvalidPairs: bad rows, each with its number; nothing is stored.
    """
    return _ensure(session, name, read_pairs(file, file_format=file_format), behavior_version_id=None)


def generated(session: WriteSession, wanted: PairSetGenerate) -> Ensured[PairSetRow]:
    """The pair set that the behavior's templates give."""
    version = behaviors.version(session, wanted.behavior_version_id)
    made = generate(version.content)
    return _ensure(session, made.name, made.pairs, behavior_version_id=version.id)


def pair_set(session: ReadSession, pair_set_id: str) -> PairSetRow:
    if (row := session.get(PairSetRow, pair_set_id)) is None:
        raise NotFound(f"There is no pair set {pair_set_id}.", remedy="List them with GET /v1/pair-sets.")
    return row


def ask_preview(session: WriteSession, pair_set_id: str, wanted: PreviewCreate) -> Ensured[PreviewRow]:
    """The preview of the pair set on the model; a worker computes a new one, and a failed one again."""
    row = PreviewRow(
        pair_set_id=pair_set(session, pair_set_id).id,
        model_version_id=registry.version(session, wanted.model_version_id).id,
        behavior_version_id=behaviors.version(session, wanted.behavior_version_id).id,
    )
    locks.hold(session, f"preview/{row.pair_set_id}/{row.model_version_id}/{row.behavior_version_id}")
    present = repository.preview_of(
        session,
        pair_set_id=row.pair_set_id,
        model_version_id=row.model_version_id,
        behavior_version_id=row.behavior_version_id,
    )
    if present is not None and present.state is not PreviewState.FAILED:
        return Ensured(present, is_new=False)
    asked = present or row
    asked.state, asked.reason = PreviewState.QUEUED, None
    session.add(asked)
    session.flush()
    dispatch.enqueue(session, dispatch.Task.PREVIEW, asked.id)
    return Ensured(asked, is_new=present is None)


def preview(session: ReadSession, preview_id: str) -> PreviewRow:
    if (row := session.get(PreviewRow, preview_id)) is None:
        raise NotFound(
            f"There is no preview {preview_id}.", remedy="Ask for one with POST /v1/pair-sets/{id}/previews."
        )
    return row


def _ensure(
    session: WriteSession, name: str, values: Iterable[Pair | Provenance], *, behavior_version_id: str | None
) -> Ensured[PairSetRow]:
    staged = repository.stage(session, name, values)
    locks.hold(session, f"pair-set/{staged.digest}")
    if present := repository.by_digest(session, staged.digest):
        return Ensured(present, is_new=False)
    return Ensured(repository.keep(session, staged, behavior_version_id=behavior_version_id), is_new=True)
