"""/v1/runs/{id}/reports and /v1/runs/{id}/report."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from audit_service.border.schemas import Uuid
from audit_service.border.transactions import Reading
from audit_service.problems import responses
from audit_service.reports import service
from audit_service.reports.schemas import Report, ReportFormat

router = APIRouter(prefix="/runs", tags=["reports"])

_KINDS = {ReportFormat.PDF: "application/pdf", ReportFormat.JSON: "application/json"}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The document.",
        "content": {
            "application/pdf": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}


@router.get("/{run_id}/reports", responses=responses(404))
def list_reports(run_id: Uuid, session: Reading) -> list[Report]:
    """The run's reports, one for each language."""
    return [Report.of(row) for row in service.reports(session, run_id)]


@router.get("/{run_id}/report", response_class=Response, responses={**_FILE, **responses(404)})
def download_report(
    run_id: Uuid,
    session: Reading,
    language: Annotated[str, Query(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", examples=["en", "zh-Hant"])] = "en",
    file_format: Annotated[ReportFormat, Query(alias="format")] = ReportFormat.PDF,
) -> Response:
    """The evidence report, as the PDF or as the view that it is rendered from."""
    content = service.document(session, run_id, language=language, file_format=file_format)
    name = f"evidence-{run_id}-{language}.{file_format}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=_KINDS[file_format], headers=headers)
