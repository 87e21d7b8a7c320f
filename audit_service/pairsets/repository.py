"""Queries on pair sets, their pairs and previews."""

from collections.abc import Sequence
from itertools import islice

from sqlalchemy import Select, insert, select

from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.tables import PairRow, PairSetRow, PreviewRow
from audit_service.domain.pairs import Pair, PairSet

_ROWS_AT_ONCE = 1000


def pair_sets() -> Select[PairSetRow]:
    return select(PairSetRow)


def pairs_of(pair_set_id: str) -> Select[PairRow]:
    return select(PairRow).where(PairRow.pair_set_id == pair_set_id)


def by_digest(session: ReadSession, digest: str) -> PairSetRow | None:
    return session.scalars(select(PairSetRow).where(PairSetRow.digest == digest)).one_or_none()


def load(session: ReadSession, row: PairSetRow) -> PairSet:
    """The whole set as it was hashed: its pairs in their order."""
    pairs = session.scalars(select(PairRow.content).where(PairRow.pair_set_id == row.id).order_by(PairRow.ordinal))
    return PairSet(name=row.name, pairs=tuple(pairs), provenance=row.provenance)


def add(session: WriteSession, content: PairSet, *, behavior_version_id: str | None) -> PairSetRow:
    """Store the set and its pairs."""
    row = PairSetRow(
        name=content.name,
        digest=content.digest,
        count=len(content.pairs),
        behavior_version_id=behavior_version_id,
        provenance=content.provenance,
    )
    session.add(row)
    session.flush()
    _add_pairs(session, row.id, content.pairs)
    return row


def _add_pairs(session: WriteSession, pair_set_id: str, pairs: Sequence[Pair]) -> None:
    rows = (
        {"pair_set_id": pair_set_id, "ordinal": ordinal, "pair_id": pair.id, "content": pair}
        for ordinal, pair in enumerate(pairs)
    )
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        session.execute(insert(PairRow), some)


def preview_of(
    session: ReadSession, *, pair_set_id: str, model_version_id: str, behavior_version_id: str
) -> PreviewRow | None:
    query = select(PreviewRow).where(
        PreviewRow.pair_set_id == pair_set_id,
        PreviewRow.model_version_id == model_version_id,
        PreviewRow.behavior_version_id == behavior_version_id,
    )
    return session.scalars(query).one_or_none()
