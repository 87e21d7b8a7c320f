"""Reports as they go out."""

from datetime import datetime
from enum import StrEnum

from audit_service.border.schemas import Answer


class ReportFormat(StrEnum):
    PDF = "pdf"
    JSON = "json"
    """The view that the PDF is rendered from."""


class Report(Answer):
    id: str
    run_id: str
    language: str
    """BCP 47."""
    digest: str
    """SHA-256 of the PDF."""
    created_at: datetime
