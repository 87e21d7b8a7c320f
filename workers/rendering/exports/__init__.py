"""The evidence in the formats of other tools. Each follows from the evidence alone: no clock, no random ids."""

from collections.abc import Mapping

from audit_service.domain.manifest import canonical_json
from workers.rendering.evidence import Evidence
from workers.rendering.exports.cyclonedx import ml_bom
from workers.rendering.exports.intoto import statement
from workers.rendering.exports.oscal import assessment_results
from workers.rendering.exports.rocrate import CRATE, metadata

__all__ = ["CRATE", "described", "exports"]


def exports(evidence: Evidence) -> dict[str, bytes]:
    """Name in the bundle → canonical JSON."""
    return {
        "oscal-assessment-results.json": canonical_json(assessment_results(evidence)),
        "cyclonedx-ml-bom.json": canonical_json(ml_bom(evidence)),
        "in-toto-test-result.json": canonical_json(statement(evidence)),
    }


def described(evidence: Evidence, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The RO-Crate that describes all the other files of the bundle."""
    return {CRATE: canonical_json(metadata(evidence, files))}
