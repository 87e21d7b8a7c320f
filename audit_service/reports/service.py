"""Finding a run's reports and its bundle, and asking for a new edition."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.orm import undefer

from audit_service import dispatch
from audit_service.audits import service as audits
from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.tables import BundleRow, ReportRow, RunRow
from audit_service.domain.lifecycle import EventKind, RunState
from audit_service.errors import Conflict, NotFound
from audit_service.events import repository as events
from audit_service.reports import repository
from audit_service.reports.schemas import MEDIA_TYPES, ReportFormat

_COLUMNS = {
    ReportFormat.PDF: ReportRow.pdf,
    ReportFormat.HTML: ReportRow.html,
    ReportFormat.JSON: ReportRow.view,
    ReportFormat.DOCX: ReportRow.docx,
}
_AGAIN = "Ask for a new edition with POST /v1/runs/{id}/reports."


class Document(NamedTuple):
    content: bytes
    edition: int
    digest: str
    """SHA-256 of the content."""


def reports(session: ReadSession, run_id: str) -> Sequence[ReportRow]:
    """The run's reports, the youngest edition first."""
    return repository.reports(session, audits.run(session, run_id).id)


def document(
    session: ReadSession, run_id: str, *, language: str, file_format: ReportFormat, edition: int | None = None
) -> Document:
    """The report in one language as a file; without a number the youngest edition.

    Raises NotFound, naming what there is.
    """
    run = audits.run(session, run_id)
    column = _COLUMNS[file_format]
    query = repository.editions(run_id, language=language).options(undefer(column))
    if edition is not None:
        query = query.where(ReportRow.edition == edition)
    if (row := session.scalars(query.limit(1)).first()) is None:
        raise _no_report(session, run, language if edition is None else f"{language}, edition {edition}")
    content: bytes = getattr(row, column.key)
    if not content:
        raise NotFound(f"This edition was made before there was {file_format.upper()}.", remedy=_AGAIN)
    return Document(content, row.edition, hashlib.sha256(content).hexdigest())


def _no_report(session: ReadSession, run: RunRow, wanted: str) -> NotFound:
    made = ", ".join(dict.fromkeys(report.language for report in repository.reports(session, run.id))) or "none"
    return NotFound(
        f"The run {run.id} has no report in {wanted}; it is {run.state}, and its reports are: {made}.",
        remedy="Wait until it is completed, or ask for one of the languages that there are.",
    )


def bundles(session: ReadSession, run_id: str) -> Sequence[BundleRow]:
    """The run's bundles, the youngest edition first."""
    return session.scalars(repository.bundles(audits.run(session, run_id).id)).all()


def bundle(session: ReadSession, run_id: str, *, edition: int | None = None) -> BundleRow:
    """The run's bundle; without a number the youngest edition's.

    Raises NotFound while there is none.
    """
    run = audits.run(session, run_id)
    query = repository.bundles(run_id)
    if edition is not None:
        query = query.where(BundleRow.edition == edition)
    if (row := session.scalars(query.limit(1)).first()) is None:
        completed = run.state is RunState.COMPLETED
        raise NotFound(
            f"The run {run_id} has no such bundle; it is {run.state}.",
            remedy=_AGAIN if completed else "Wait until it is completed.",
        )
    return row


def reissue(session: WriteSession, run_id: str, *, by: str) -> RunRow:
    """Ask for a new edition. None is made if nothing was put on record since the last one.

    Raises Conflict unless the run is completed.
    """
    run = audits.run(session, run_id)
    if run.state is not RunState.COMPLETED:
        raise Conflict(f"Run {run_id} is {run.state}.", remedy="Its first report is made when it is judged.")
    dispatch.enqueue(session, dispatch.Task.REPORT, run_id)
    asked = {"what": "asked", "edition": None, "digests": None}
    events.append(session, run_id, EventKind.REPORT, actor=by, data=asked)
    return run


def acceptable(accept: str) -> ReportFormat:
    """The format that an Accept header likes best; PDF where it has no opinion of ours."""
    wanted = sorted((_weighed(part) for part in accept.split(",")), key=lambda one: -one[1])
    formats = {media_type: file_format for file_format, media_type in MEDIA_TYPES.items()}
    return next((formats[kind] for kind, weight in wanted if weight > 0 and kind in formats), ReportFormat.PDF)


def _weighed(part: str) -> tuple[str, float]:
    kind, _, parameters = part.partition(";")
    weights = [value for name, _, value in (p.strip().partition("=") for p in parameters.split(";")) if name == "q"]
    try:
        return kind.strip().lower(), float(weights[0]) if weights else 1.0
    except ValueError:  # a weight that is no number: as little wanted as can be
        return kind.strip().lower(), 0.0
