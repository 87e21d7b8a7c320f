"""``python -m audit_service`` is ``audit-service``."""

from audit_service.cli import main

main()
