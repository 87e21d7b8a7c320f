"""Registering behaviors, and finding them again."""

from audit_service.behaviors import repository
from audit_service.db.base import Ensured
from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.tables import BehaviorVersionRow
from audit_service.domain.behaviors import Behavior
from audit_service.domain.manifest import digest
from audit_service.errors import NotFound


def register(session: WriteSession, content: Behavior) -> Ensured[BehaviorVersionRow]:
    """The next version of the behavior of that name; content that is known gives the version that holds it."""
    behavior = repository.ensure_behavior(session, content.name)
    content_digest = digest(content)
    if present := repository.version_with(session, behavior_id=behavior.id, digest=content_digest):
        return Ensured(present, is_new=False)
    row = BehaviorVersionRow(
        behavior=behavior,
        number=repository.newest_number(session, behavior.id) + 1,
        content=content,
        digest=content_digest,
    )
    session.add(row)
    session.flush()
    return Ensured(row, is_new=True)


def version(session: ReadSession, version_id: str) -> BehaviorVersionRow:
    if (row := session.get(BehaviorVersionRow, version_id)) is None:
        raise NotFound(
            f"There is no behavior version {version_id}.", remedy="List them with GET /v1/behavior-versions."
        )
    return row
