"""Locks by name, held until the transaction ends: they order what no row is there yet to order."""

from sqlalchemy import func, select

from audit_service.db.handles import WriteSession


def hold(session: WriteSession, name: str) -> None:
    """Wait until nobody else holds the name."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
