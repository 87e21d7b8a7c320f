"""Finding a run's reports."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import undefer

from audit_service.audits import service as audits
from audit_service.db.handles import ReadSession
from audit_service.db.tables import ReportRow
from audit_service.errors import NotFound
from audit_service.reports.schemas import ReportFormat


def reports(session: ReadSession, run_id: str) -> Sequence[ReportRow]:
    """The run's reports, one for each language."""
    run = audits.run(session, run_id)
    return session.scalars(select(ReportRow).where(ReportRow.run_id == run.id).order_by(ReportRow.language)).all()


def document(session: ReadSession, run_id: str, *, language: str, file_format: ReportFormat) -> bytes:
    """The report in one language as a file."""
    run = audits.run(session, run_id)
    column = ReportRow.pdf if file_format is ReportFormat.PDF else ReportRow.view
    query = select(ReportRow).where(ReportRow.run_id == run_id, ReportRow.language == language)
    if (row := session.scalars(query.options(undefer(column))).one_or_none()) is None:
        made = ", ".join(report.language for report in reports(session, run_id)) or "none"
        raise NotFound(
            f"The run {run_id} has no report in {language}; it is {run.state}, and its reports are: {made}.",
            remedy="Wait until it is completed, or ask for one of the languages that there are.",
        )
    return row.pdf if file_format is ReportFormat.PDF else row.view
