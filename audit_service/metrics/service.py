"""Registering metrics, and finding them again."""

from sqlalchemy import select

from audit_service.db import locks
from audit_service.db.base import Ensured
from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.tables import MetricRow
from audit_service.domain.manifest import digest
from audit_service.domain.readings import MetricDefinition
from audit_service.errors import NotFound


def register(session: WriteSession, content: MetricDefinition) -> Ensured[MetricRow]:
    """The next version of the metric of that name; content that is known gives the version that holds it."""
    locks.hold(session, f"metric/{content.name}")
    versions = session.scalars(
        select(MetricRow).where(MetricRow.name == content.name).order_by(MetricRow.version)
    ).all()
    content_digest = digest(content)
    for present in versions:
        if present.digest == content_digest:
            return Ensured(present, is_new=False)
    row = MetricRow(name=content.name, version=len(versions) + 1, content=content, digest=content_digest)
    session.add(row)
    session.flush()
    return Ensured(row, is_new=True)


def metric(session: ReadSession, metric_id: str) -> MetricRow:
    if (row := session.get(MetricRow, metric_id)) is None:
        raise NotFound(f"There is no metric {metric_id}.", remedy="List them with GET /v1/metrics.")
    return row
