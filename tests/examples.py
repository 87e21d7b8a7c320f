"""The shipped example as a value."""

from pathlib import Path

from audit_service.domain.auditfile import AuditFile, parse_audit_file

EXAMPLES = Path(__file__).parent.parent / "examples"


def loan_denial() -> AuditFile:
    path = EXAMPLES / "loan-denial.yaml"
    return parse_audit_file(path.read_text(), name=path.name)
