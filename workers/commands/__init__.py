"""Commands that need torch. They join `audit-service` through the entry points of pyproject.toml."""
