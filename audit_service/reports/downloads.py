"""Reports and bundles as files, for whoever may fetch them."""

from typing import Annotated

from fastapi import Query, Response
from fastapi.responses import StreamingResponse

from audit_service.db.handles import Database
from audit_service.db.tables import BundleRow
from audit_service.reports import repository
from audit_service.reports.schemas import MEDIA_TYPES, ReportFormat
from audit_service.reports.service import Document

BINARY = {"schema": {"type": "string", "format": "binary"}}
Language = Annotated[str, Query(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", examples=["en", "zh-Hant"])]


def report_file(found: Document, *, run_id: str, language: str, file_format: ReportFormat) -> Response:
    headers = {
        "ETag": f'"{found.digest}"',
        "Content-Disposition": f'attachment; filename="evidence-{run_id}-{language}.{file_format}"',
    }
    return Response(found.content, media_type=MEDIA_TYPES[file_format], headers=headers)


def bundle_file(database: Database, row: BundleRow) -> Response:
    """The bundle part by part; the ETag is its SHA-256."""
    headers = {
        "ETag": f'"{row.digest}"',
        "Content-Length": str(row.size),
        "Content-Disposition": f'attachment; filename="evidence-{row.run_id}.zip"',
    }
    return StreamingResponse(repository.stream(database, row), media_type="application/zip", headers=headers)
