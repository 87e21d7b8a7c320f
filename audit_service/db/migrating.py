"""Bringing a database to the present tables, and refusing to work on one that is behind."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from audit_service.db.handles import connect, translate
from audit_service.errors import DatabaseBehind

SCRIPTS = Path(__file__).parents[2] / "migrations"


def migrate(url: str) -> None:
    """Apply every migration that is missing. Two at once wait for each other."""
    engine = connect(url)
    try:
        config = _config()
        config.attributes["engine"] = engine
        command.upgrade(config, "head")
    except DBAPIError as error:
        raise translate(error) or error from error
    finally:
        engine.dispose()


def assert_current(url: str) -> None:
    """Raise DatabaseBehind unless every migration has been applied."""
    engine = connect(url)
    try:
        check_current(engine)
    finally:
        engine.dispose()


def check_current(engine: Engine) -> None:
    """``assert_current`` on an engine that is open already."""
    try:
        with engine.connect() as connection:
            applied = set(MigrationContext.configure(connection).get_current_heads())
    except DBAPIError as error:
        raise translate(error) or error from error
    wanted = set(ScriptDirectory.from_config(_config()).get_heads())
    if applied != wanted:
        raise DatabaseBehind(
            f"The database is at migration {_named(applied)}, this version of the service needs {_named(wanted)}.",
            remedy="Run `audit-service migrate`.",
        )


def _named(heads: set[str]) -> str:
    return ", ".join(sorted(heads)) or "none"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    return config
