"""Library entries as they go out."""

from typing import Self

from audit_service.border.schemas import Answer
from audit_service.domain.behaviors import Behavior
from audit_service.domain.datasheets import Datasheet
from audit_service.domain.plan import Judging, Tracing
from audit_service.domain.readings import MetricDefinition
from audit_service.library.catalogue import Entry


class LibraryEntry(Answer):
    """A behavior that can be registered as it is, or adapted first."""

    name: str
    attributes: list[str]
    datasheet: Datasheet

    @classmethod
    def listing(cls, entry: Entry) -> Self:
        return cls(
            name=entry.name,
            attributes=[attribute.name for attribute in entry.audit.behavior.attributes],
            datasheet=entry.datasheet,
        )


class LibraryEntryDetail(LibraryEntry):
    behavior: Behavior
    """Send it to POST /v1/behavior-versions."""
    tracing: Tracing
    judging: Judging
    metrics: tuple[MetricDefinition, ...]
    """Tracing, judging and metrics that the plan can start from."""
    file: str
    """The audit file for `audit-service run`, with comments."""

    @classmethod
    def whole(cls, entry: Entry) -> Self:
        audit = entry.audit
        content = LibraryEntry.listing(entry).model_dump()
        return cls(
            **content,
            behavior=audit.behavior,
            tracing=audit.tracing,
            judging=audit.judging,
            metrics=audit.definitions(),
            file=entry.file,
        )
