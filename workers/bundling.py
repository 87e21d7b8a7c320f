"""The bundle of a finished run, gathered from the database."""

from sqlalchemy import select
from sqlalchemy.orm import undefer

from audit_service.db.handles import Database
from audit_service.db.tables import ReportRow, RunRow
from audit_service.domain.lifecycle import RunState
from audit_service.errors import Conflict, NotFound
from workers.cells import load
from workers.rendering.blocks import EvidenceView
from workers.rendering.bundle import make_bundle
from workers.rendering.evidence import Evidence
from workers.rendering.html import render_html
from workers.rendering.report import Report
from workers.rendering.verifying import attached_evidence


def bundle_of(database: Database, run_id: str) -> bytes:
    """Reports as they were saved, the evidence that they carry, and every cell.

    Raises:
        NotFound: there is no such run.
        Conflict: the run is not completed, so there is nothing to hand on.
    """
    with database.reading() as session:
        run = session.get(RunRow, run_id)
        if run is None:
            raise NotFound(f"There is no run {run_id}.", remedy="List the runs with GET /v1/runs.")
        if run.state is not RunState.COMPLETED:
            raise Conflict(f"Run {run_id} is {run.state}.", remedy="Wait until it is completed.")
        query = select(ReportRow).where(ReportRow.run_id == run_id).order_by(ReportRow.language)
        rows = list(session.scalars(query.options(undefer(ReportRow.pdf), undefer(ReportRow.view))))
        cells = {stored.shard.key: stored.trace.payload for stored in load(session, run_id).shards}
        evidence: Evidence = attached_evidence(rows[0].pdf)
        return make_bundle(evidence, [_report(row) for row in rows], cells)


def _report(row: ReportRow) -> Report:
    """The saved documents; the HTML follows from the view."""
    view = EvidenceView.model_validate_json(row.view)
    return Report(view.document_id, row.language, html=render_html(view), json=row.view, pdf=row.pdf)
