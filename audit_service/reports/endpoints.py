"""/v1/runs/{id}/reports, /v1/runs/{id}/report and /v1/runs/{id}/bundle."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from audit_service.audits.schemas import Run
from audit_service.border.routes import Guarded
from audit_service.border.schemas import Uuid
from audit_service.border.transactions import Actor, Own, Reading, Writing
from audit_service.problems import responses
from audit_service.reports import service
from audit_service.reports.downloads import BINARY, Language, bundle_file, report_file
from audit_service.reports.schemas import MEDIA_TYPES, Bundle, Report, ReportFormat

router = APIRouter(prefix="/runs", tags=["reports"], route_class=Guarded)

_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The document.",
        "content": {
            MEDIA_TYPES[ReportFormat.PDF]: BINARY,
            MEDIA_TYPES[ReportFormat.HTML]: {"schema": {"type": "string"}},
            MEDIA_TYPES[ReportFormat.JSON]: {"schema": {"type": "object"}},
            MEDIA_TYPES[ReportFormat.DOCX]: BINARY,
        },
    }
}
_ZIP: dict[int | str, dict[str, Any]] = {
    200: {"description": "The bundle.", "content": {"application/zip": BINARY}},
    304: {"description": "The bundle is the one that If-None-Match names."},
}
_HARMLESS = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""A report that is opened in a browser runs nothing and fetches nothing."""
_Edition = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="None is the youngest.")]


@router.get("/{run_id}/reports", responses=responses(404))
def list_reports(run_id: Uuid, session: Reading) -> list[Report]:
    """The run's reports: one for each edition and language, the youngest edition first."""
    return [Report.of(row) for row in service.reports(session, run_id)]


@router.post("/{run_id}/reports", status_code=202, responses=responses(404, 409))
def reissue_reports(run_id: Uuid, session: Writing, actor: Actor) -> Run:
    """Ask for a new edition of a completed run's reports and bundle, with what was put on record since."""
    return Run.of(service.reissue(session, run_id, by=actor))


@router.get("/{run_id}/report", response_class=Response, responses={**_FILE, **responses(404)})
def download_report(
    run_id: Uuid,
    session: Reading,
    *,
    language: Language = "en",
    file_format: Annotated[
        ReportFormat | None, Query(alias="format", description="Without one, what `Accept` likes best.")
    ] = None,
    edition: _Edition = None,
    accept: Annotated[str, Header(max_length=2000)] = "*/*",
) -> Response:
    """The evidence report. PDF, HTML, JSON and DOCX say the same; only the PDF is signed."""
    chosen = file_format or service.acceptable(accept)
    found = service.document(session, run_id, language=language, file_format=chosen, edition=edition)
    answer = report_file(found, run_id=run_id, language=language, file_format=chosen)
    answer.headers.update({"Content-Security-Policy": _HARMLESS, "Vary": "Accept"})
    return answer


@router.get("/{run_id}/bundles", responses=responses(404))
def list_bundles(run_id: Uuid, session: Reading) -> list[Bundle]:
    """Sizes and digests of the run's bundles: one for each edition of its reports, the youngest first."""
    return [Bundle.of(row) for row in service.bundles(session, run_id)]


@router.get("/{run_id}/bundle", response_class=Response, responses={**_ZIP, **responses(404)})
def download_bundle(
    run_id: Uuid,
    database: Own,
    edition: _Edition = None,
    if_none_match: Annotated[str, Header(max_length=2000)] = "",
) -> Response:
    """Everything an auditor needs to check the run, as a zip. The ETag is its SHA-256."""
    with database.reading() as session:
        row = service.bundle(session, run_id, edition=edition)
    if (tag := f'"{row.digest}"') in if_none_match:
        return Response(status_code=304, headers={"ETag": tag})
    return bundle_file(database, row)
