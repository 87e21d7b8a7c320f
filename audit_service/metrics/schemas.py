"""Metrics as they go out; what comes in is the metric itself."""

from datetime import datetime

from audit_service.border.schemas import Answer
from audit_service.domain.readings import MetricDefinition


class MetricVersion(Answer):
    id: str
    name: str
    version: int
    """1 for the first metric of that name."""
    digest: str
    content: MetricDefinition
    created_at: datetime
