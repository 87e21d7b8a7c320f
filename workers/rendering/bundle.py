"""The evidence bundle: everything an auditor needs to check a run without us, in one file.

A plain zip without compression choices: the same content gives the same bytes, so that a change anywhere shows.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from audit_service.domain.chain import chained
from audit_service.domain.manifest import canonical_json
from workers.rendering.container import pack
from workers.rendering.evidence import EventRecord, Evidence
from workers.rendering.exports import described, exports
from workers.rendering.report import Report

MANIFEST = "MANIFEST.json"
README = """This is the evidence of one audit run.

report.*.pdf and others      the report as PDF, HTML, JSON and DOCX; the PDF carries evidence.json
evidence.json               plan, prompt pairs, every result, digests of every cell, events, approvals
plan.json, pair_set.json    the frozen plan and its prompt pairs; their SHA-256 is their identity
cells/*.safetensors         every measured cell, by shard key
results.json                the statistics; environment.json what they were computed with
events.json, approvals.json the log, each entry hashed with the one before; the decisions on record
oscal-*, cyclonedx-*, in-toto-*, ro-crate-metadata.json
                            the same evidence in the formats of other tools
MANIFEST.json               SHA-256 of every other file

Check it without the service:   audit-service verify FILE
"""


def event_chain(events: Sequence[EventRecord]) -> list[dict[str, Any]]:
    """Entries, each with the SHA-256 of the entry before and of itself: none can be changed, moved or taken out.

    With them the log's own entries, whose digests the report prints: between them lie those of other runs.
    """
    return chained([_said(event) for event in events])


def _said(event: EventRecord) -> dict[str, Any]:
    said = {"at": event.at.isoformat(), "actor": event.actor, "what": event.what}
    return said if event.entry is None else said | {"log": event.entry}


def parts(evidence: Evidence) -> dict[str, bytes]:
    """The files that repeat a part of the evidence for other programs, by name."""
    return {
        "README.txt": README.encode(),
        "evidence.json": canonical_json(evidence),
        "plan.json": canonical_json(evidence.plan),
        "pair_set.json": canonical_json(evidence.pair_set),
        "results.json": canonical_json(evidence.judgement),
        "environment.json": canonical_json([measured.model_dump(mode="json") for measured in evidence.measured]),
        "events.json": canonical_json(event_chain(evidence.events)),
        "approvals.json": canonical_json([approval.model_dump(mode="json") for approval in evidence.approvals]),
        **exports(evidence),
    }


def contents(evidence: Evidence, reports: Sequence[Report], cells: Mapping[str, bytes]) -> dict[str, bytes]:
    """The bundle's files by name, without the manifest. ``cells``: shard key → stored payload."""
    files = parts(evidence)
    for report in reports:
        name = f"report.{report.language}"
        files |= {f"{name}.pdf": report.pdf, f"{name}.html": report.html.encode(), f"{name}.json": report.json}
        files[f"{name}.docx"] = report.docx
    files |= {f"cells/{key}.safetensors": payload for key, payload in cells.items()}
    return files | described(evidence, files)


def manifest(files: Mapping[str, bytes], *, document_id: str) -> bytes:
    """Canonical JSON of the SHA-256 of each file."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != MANIFEST}
    return canonical_json({"document_id": document_id, "files": digests, "schema": 1})


def make_bundle(evidence: Evidence, reports: Sequence[Report], cells: Mapping[str, bytes]) -> bytes:
    """The bundle of a run; equal input gives equal bytes."""
    files = contents(evidence, reports, cells)
    return pack(files | {MANIFEST: manifest(files, document_id=evidence.document_id)})
