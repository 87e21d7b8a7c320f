"""Bundles in parts: written once, read one part at a time."""

import hashlib
from collections.abc import Iterator, Sequence

from sqlalchemy import Select, select
from sqlalchemy.orm import undefer

from audit_service.db.base import new_id
from audit_service.db.handles import Database, ReadSession, WriteSession
from audit_service.db.tables import BundlePartRow, BundleRow, ReportRow

PART_BYTES = 1024 * 1024


def reports(session: ReadSession, run_id: str) -> Sequence[ReportRow]:
    """Every edition in every language, the youngest edition first."""
    query = select(ReportRow).where(ReportRow.run_id == run_id)
    return session.scalars(query.order_by(ReportRow.edition.desc(), ReportRow.language)).all()


def editions(run_id: str, *, language: str) -> Select[ReportRow]:
    """A language's reports, the youngest edition first."""
    query = select(ReportRow).where(ReportRow.run_id == run_id, ReportRow.language == language)
    return query.order_by(ReportRow.edition.desc())


def bundles(run_id: str) -> Select[BundleRow]:
    """The run's bundles, the youngest edition first."""
    return select(BundleRow).where(BundleRow.run_id == run_id).order_by(BundleRow.edition.desc())


def add_bundle(session: WriteSession, run_id: str, content: bytes, *, edition: int, evidence_digest: str) -> BundleRow:
    """The bundle of an edition, with its parts."""
    row = BundleRow(
        id=new_id(),
        run_id=run_id,
        edition=edition,
        size=len(content),
        digest=hashlib.sha256(content).hexdigest(),
        evidence_digest=evidence_digest,
    )
    session.add(row)
    session.flush()
    session.add_all(
        BundlePartRow(bundle_id=row.id, ordinal=ordinal, content=content[start : start + PART_BYTES])
        for ordinal, start in enumerate(range(0, len(content), PART_BYTES))
    )
    return row


def stream(database: Database, bundle: BundleRow) -> Iterator[bytes]:
    """The bundle's parts, each read in a transaction of its own: a slow download holds no connection."""
    for ordinal in range(-(-bundle.size // PART_BYTES)):
        with database.reading() as session:
            part = session.get_one(BundlePartRow, (bundle.id, ordinal), options=[undefer(BundlePartRow.content)])
        yield part.content
