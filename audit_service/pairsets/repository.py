"""Queries on pair sets, their pairs and previews."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psycopg
from sqlalchemy import Select, select, text
from sqlalchemy.exc import DBAPIError

from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.queries import narrowed
from audit_service.db.tables import PairRow, PairSetRow, PreviewRow
from audit_service.domain.manifest import canonical_json
from audit_service.domain.pairs import Pair, PairSet, SetDigest
from audit_service.domain.provenance import Provenance

_STAGE = "CREATE TEMPORARY TABLE staged_pairs (ordinal integer, pair_id text, content json) ON COMMIT DROP"
_KEEP = """
INSERT INTO pairs (pair_set_id, ordinal, pair_id, content)
SELECT :id, ordinal, pair_id, content FROM staged_pairs
"""


class Staged(NamedTuple):
    """What is known of a set once all of its pairs were seen."""

    name: str
    digest: str
    pairs: int
    provenance: Provenance | None


def pair_sets(*, name: str | None = None, behavior_version_id: str | None = None) -> Select[PairSetRow]:
    wanted = {PairSetRow.name: name, PairSetRow.behavior_version_id: behavior_version_id}
    return narrowed(select(PairSetRow), wanted)


def pairs_of(pair_set_id: str) -> Select[PairRow]:
    return select(PairRow).where(PairRow.pair_set_id == pair_set_id)


def by_digest(session: ReadSession, digest: str) -> PairSetRow | None:
    return session.scalars(select(PairSetRow).where(PairSetRow.digest == digest)).one_or_none()


def load(session: ReadSession, row: PairSetRow) -> PairSet:
    """The whole set as it was hashed: its pairs in their order."""
    pairs = session.scalars(select(PairRow.content).where(PairRow.pair_set_id == row.id).order_by(PairRow.ordinal))
    return PairSet(name=row.name, pairs=tuple(pairs), provenance=row.provenance)


def stage(session: WriteSession, name: str, values: Iterable[Pair | Provenance]) -> Staged:
    """Write the pairs beside the table as they come, until the digest of all tells whether they are there already.

    Postgres takes no COPY into a table with row-level security, and row by row is slow; a temporary table has none.
    It ends with the transaction, which can stage one set.
    """
    digest, provenance = SetDigest(name), None
    session.execute(text(_STAGE))
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)  # noqa: S101 - SQLAlchemy types all drivers alike
    with _as_of_sqlalchemy(), connection.cursor() as cursor, cursor.copy("COPY staged_pairs FROM STDIN") as copy:
        for value in values:
            if isinstance(value, Provenance):
                provenance = value
                continue
            written = canonical_json(value)
            copy.write_row((digest.count, value.id, written.decode()))
            digest.add(written)
    return Staged(name, digest.finish(provenance), digest.count, provenance)


def keep(session: WriteSession, staged: Staged, *, behavior_version_id: str | None) -> PairSetRow:
    """Store the set that was staged."""
    row = PairSetRow(
        name=staged.name,
        digest=staged.digest,
        count=staged.pairs,
        behavior_version_id=behavior_version_id,
        provenance=staged.provenance,
    )
    session.add(row)
    session.flush()
    session.execute(text(_KEEP), {"id": row.id})
    return row


@contextmanager
def _as_of_sqlalchemy() -> Iterator[None]:
    """The driver's errors as those that the rest of the service knows."""
    try:
        yield
    except psycopg.Error as error:
        raise DBAPIError.instance(_STAGE, None, error, psycopg.Error) from error


def preview_of(
    session: ReadSession, *, pair_set_id: str, model_version_id: str, behavior_version_id: str
) -> PreviewRow | None:
    query = select(PreviewRow).where(
        PreviewRow.pair_set_id == pair_set_id,
        PreviewRow.model_version_id == model_version_id,
        PreviewRow.behavior_version_id == behavior_version_id,
    )
    return session.scalars(query).one_or_none()
