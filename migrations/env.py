"""Alembic's entry: runs the migrations on the engine it is handed.

A migration that was released is never changed. Each file therefore stands alone and says again what another said: code
that they shared would change what they did.
"""

from typing import Any, Literal

from alembic import context
from sqlalchemy import Engine, Enum, text

from audit_service.db import tables  # noqa: F401 - fills the metadata
from audit_service.db.base import Base, Value

LOCK = 0x41554449
"""Key of the advisory lock that keeps two migrations apart."""


def run(engine: Engine) -> None:
    with engine.connect() as connection:
        context.configure(
            connection=connection, target_metadata=Base.metadata, compare_type=True, render_item=plain_types
        )
        with context.begin_transaction():
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            context.run_migrations()


def plain_types(kind: str, item: Any, _: Any) -> str | Literal[False]:  # noqa: ANN401 - Alembic's hook
    """A migration names database types only: our classes change, what was migrated does not."""
    if kind == "type" and isinstance(item, Value):
        return "postgresql.JSON()"
    if kind == "type" and isinstance(item, Enum):
        return f"sa.String({item.length})"
    return False


run(context.config.attributes["engine"])
