"""A bundle and a report of a run, put into the database without a worker."""

import hashlib

from audit_service.db.base import new_id
from audit_service.db.handles import Database
from audit_service.db.tables import BundleRow, ReportRow
from audit_service.reports.repository import split

PACKED = b"PK of the whole evidence"
PDF = b"%PDF of the evidence"


def add_bundle(database: Database, run_id: str, *, edition: int = 1, content: bytes = PACKED) -> None:
    bundle = BundleRow(
        id=new_id(),
        run_id=run_id,
        edition=edition,
        size=len(content),
        digest=hashlib.sha256(content).hexdigest(),
        evidence_digest="e" * 64,
    )
    report = ReportRow(
        run_id=run_id,
        language="en",
        edition=edition,
        pdf=PDF,
        view=b"{}",
        html=b"<p>",
        docx=b"PK",
        digest=hashlib.sha256(PDF).hexdigest(),
    )
    with database.writing() as session:
        session.add_all([bundle, report])
        session.flush()
        session.add_all(split(bundle.id, content))
