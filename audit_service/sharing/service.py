"""Making, opening and revoking links. Every use is logged, and every refusal that can be ascribed."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Select, select

from audit_service.db.base import new_id
from audit_service.db.handles import Acting, Database, ReadSession, WriteSession
from audit_service.db.queries import narrowed
from audit_service.db.tables import BundleRow, ReportRow, ShareRow
from audit_service.domain.lifecycle import EventKind
from audit_service.errors import Gone, NotFound
from audit_service.events import repository as events
from audit_service.identity.bearer import Bearer
from audit_service.identity.principals import Principal
from audit_service.reports import service as reports
from audit_service.sharing.schemas import SharedRun

KIND = "share"
_REMEDY = "Ask whoever sent you the link for another one."


class Opened(NamedTuple):
    """A link that leads somewhere, and the database as its organisation sees it."""

    share: ShareRow
    database: Database


class Shared(NamedTuple):
    row: ShareRow
    text: str
    """It cannot be had again."""


def share(session: WriteSession, run_id: str, *, days: int, note: str, by: Principal) -> Shared:
    """A link to the youngest edition. NotFound while the run has no bundle."""
    bundle = reports.bundle(session, run_id)
    share_id = new_id()
    text, digest = Bearer.issue(KIND, organisation_id=by.organisation_id, id=share_id)
    row = ShareRow(
        id=share_id,
        run_id=run_id,
        edition=bundle.edition,
        digest=digest,
        note=note,
        created_by=by.name,
        expires_at=datetime.now(UTC) + timedelta(days=days),
        opened=0,
    )
    session.add(row)
    session.flush()
    _note(session, row, what="made", by=by.name)
    return Shared(row, text)


def shares(*, run_id: str | None = None) -> Select[ShareRow]:
    return narrowed(select(ShareRow), {ShareRow.run_id: run_id})


def revoke(session: WriteSession, share_id: str, *, by: str) -> ShareRow:
    """End a link now; a second time changes nothing."""
    if (row := session.get(ShareRow, share_id, with_for_update={"key_share": True})) is None:
        raise NotFound(f"There is no link {share_id}.", remedy="List them with GET /v1/shares.")
    if row.revoked_at is None:
        row.revoked_at = datetime.now(UTC)
        session.flush()
        _note(session, row, what="revoked", by=by)
    return row


def open_link(database: Database, text: str, *, what: str, address: str | None) -> Opened:
    """The link that the text stands for, its use counted and logged.

    Raises:
        NotFound: there is no such link.
        Gone: it was revoked or has ended; which of them is said and logged.
    """
    bearer = Bearer.read(KIND, text)
    if bearer is None:
        raise NotFound("There is no such link.", remedy=_REMEDY)
    own = database.acting(Acting(bearer.organisation_id, address=address))
    now = datetime.now(UTC)
    with own.writing() as session:
        row = session.get(ShareRow, bearer.id, with_for_update={"key_share": True})
        if row is None or not bearer.fits(row.digest):
            raise NotFound("There is no such link.", remedy=_REMEDY)
        ended = "revoked" if row.revoked_at else "expired" if row.expires_at <= now else None
        if ended is None:
            row.opened, row.opened_at = row.opened + 1, now
            session.flush()
        _note(session, row, what="refused" if ended else f"opened {what}", by=f"share:{row.id}", why=ended)
    if ended is not None:  # raised after the refusal was committed to the log
        raise Gone(f"The link is {ended}.", remedy=_REMEDY)
    return Opened(row, own)


def described(opened: Opened) -> SharedRun:
    """What the link leads to."""
    row = opened.share
    with opened.database.reading() as session:
        bundle = bundle_of(session, row)
        query = select(ReportRow.language).where(ReportRow.run_id == row.run_id, ReportRow.edition == row.edition)
        languages = sorted(session.scalars(query))
    return SharedRun(
        run_id=row.run_id,
        edition=row.edition,
        languages=languages,
        bundle_digest=bundle.digest,
        expires_at=row.expires_at,
    )


def bundle_of(session: ReadSession, row: ShareRow) -> BundleRow:
    return reports.bundle(session, row.run_id, edition=row.edition)


def _note(session: WriteSession, row: ShareRow, *, what: str, by: str, why: str | None = None) -> None:
    data = {"id": row.id, "what": what, "why": why}
    events.append(session, row.run_id, EventKind.SHARE, actor=by, data=data)
