"""What several exports say: one comparison's numbers, sentences in English, ids that follow from the evidence."""

import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

from audit_service.domain.manifest import digest
from audit_service.domain.results import Outcome, Result
from workers.rendering.evidence import Evidence

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "audit-service")
Json = dict[str, Any]


class Ids:
    """Version 5 UUIDs: the same evidence gives the same ids."""

    def __init__(self, evidence: Evidence) -> None:
        self._name = digest(evidence)

    def __call__(self, what: str) -> str:
        return str(uuid.uuid5(_NAMESPACE, f"{self._name}/{what}"))


class Disparity(NamedTuple):
    """The measured numbers of one comparison."""

    key: str
    form: str
    attribute: str
    reference: str
    group: str
    results: tuple[Result, ...]


def disparities(evidence: Evidence) -> Iterator[Disparity]:
    """Every comparison that the behavior declares, with what was measured of it."""
    behavior = evidence.plan.behavior
    for form in behavior.forms:
        for attribute in behavior.attributes:
            for group in sorted(set(attribute.groups) - {attribute.reference}):
                key = f"{form.name}.{attribute.name}.{group}"
                results = tuple(measured(evidence, f"{key}."))
                yield Disparity(key, form.name, attribute.name, attribute.reference, group, results)


def measured(evidence: Evidence, prefix: str) -> Iterator[Result]:
    """Results under a key that have a value."""
    for result in evidence.judgement.results:
        if result.key.startswith(prefix) and result.outcome is Outcome.MEASURED and result.value is not None:
            yield result


def clean(text: str) -> str:
    """A value as the formats take it: one line, never empty."""
    return " ".join(text.split()) or "none"
