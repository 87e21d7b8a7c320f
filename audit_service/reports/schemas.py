"""Reports as they go out."""

from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from audit_service.border.schemas import Answer


class ReportFormat(StrEnum):
    PDF = "pdf"
    """PDF/A-3a and PDF/UA-1 with the evidence attached; the one that is signed."""
    HTML = "html"
    JSON = "json"
    """The view that all the others are rendered from."""
    DOCX = "docx"
    """For those who paste into a template of their own."""


MEDIA_TYPES = MappingProxyType(
    {
        ReportFormat.PDF: "application/pdf",
        ReportFormat.HTML: "text/html",
        ReportFormat.JSON: "application/json",
        ReportFormat.DOCX: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    }
)


class Report(Answer):
    id: str
    run_id: str
    language: str
    """BCP 47."""
    edition: int
    """The highest one is the report as it stands; those before it are kept."""
    digest: str
    """SHA-256 of the PDF."""
    created_at: datetime


class Bundle(Answer):
    id: str
    run_id: str
    edition: int
    """The edition of the reports that it holds."""
    size: int
    """Bytes."""
    digest: str
    """SHA-256 of the file."""
    created_at: datetime
