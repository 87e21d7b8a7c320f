"""RO-Crate 1.1: the bundle as a research object, every file with its size and digest."""

import hashlib
from collections.abc import Mapping
from pathlib import PurePosixPath

from workers.rendering.evidence import Evidence
from workers.rendering.exports.facts import Ids, Json, clean

CRATE = "ro-crate-metadata.json"
MEDIA_TYPES = {
    ".json": "application/json",
    ".pdf": "application/pdf",
    ".html": "text/html",
    ".txt": "text/plain",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}
UNKNOWN = "application/octet-stream"
LICENSE = "#license"


def metadata(evidence: Evidence, files: Mapping[str, bytes]) -> Json:
    """https://www.researchobject.org/ro-crate/specification/1.1/ - of the files of a bundle, itself left out."""
    return {
        "@context": ["https://w3id.org/ro/crate/1.1/context", {"sha256": "https://schema.org/sha256"}],
        "@graph": [
            {
                "@id": CRATE,
                "@type": "CreativeWork",
                "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
                "about": {"@id": "./"},
            },
            _root(evidence, files),
            *(_file(name, content) for name, content in sorted(files.items())),
            *_run(evidence, files),
            {"@id": LICENSE, "@type": "CreativeWork", "name": "Confidential evidence", "description": _TERMS},
        ],
    }


_TERMS = "No licence is granted: the organisation that ordered the audit decides who may use this."


def _root(evidence: Evidence, files: Mapping[str, bytes]) -> Json:
    return {
        "@id": "./",
        "@type": "Dataset",
        "identifier": evidence.document_id,
        "name": clean(f"Audit evidence: {evidence.plan.behavior.title}"),
        "description": f"Reports, plan, prompt pairs, cells and statistics of run {evidence.run.id}.",
        "datePublished": evidence.issued_at.isoformat(),
        "license": {"@id": LICENSE},
        "hasPart": [{"@id": name} for name in sorted(files)],
        "mentions": [{"@id": f"#{Ids(evidence)('run')}"}],
    }


def _file(name: str, content: bytes) -> Json:
    return {
        "@id": name,
        "@type": "File",
        "name": name,
        "encodingFormat": MEDIA_TYPES.get(PurePosixPath(name).suffix, UNKNOWN),
        "contentSize": str(len(content)),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _run(evidence: Evidence, files: Mapping[str, bytes]) -> list[Json]:
    """What was done, with what, by whom."""
    software, person = "#audit-service", "#requested-by"
    return [
        {
            "@id": f"#{Ids(evidence)('run')}",
            "@type": "CreateAction",
            "name": f"Audit run {evidence.run.id}",
            "startTime": evidence.run.started_at.isoformat(),
            "endTime": evidence.run.ended_at.isoformat(),
            "instrument": {"@id": software},
            "agent": {"@id": person},
            "object": [{"@id": "plan.json"}, {"@id": "pair_set.json"}],
            "result": [{"@id": name} for name in sorted(files) if name not in {"plan.json", "pair_set.json"}],
        },
        {
            "@id": software,
            "@type": "SoftwareApplication",
            "name": "audit-service",
            "version": evidence.run.service_version,
        },
        {"@id": person, "@type": "Person", "name": clean(evidence.run.requested_by)},
    ]
