"""Postgres: tables, handles and migrations. Queries live in the repositories of the nouns."""
