"""The door to Postgres. Leaving a ``writing`` block commits; nothing else does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NewType

from psycopg.errors import DiskFull
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.orm import Session

from audit_service.errors import AuditError, DatabaseBehind, DatabaseDown, InvalidInput, StorageFull

ReadSession = NewType("ReadSession", Session)
"""A session in a READ ONLY transaction."""
WriteSession = NewType("WriteSession", ReadSession)
"""A session that may write; it can be handed to whatever only reads."""

_AFTER_COMMIT = "after_commit"
_UNDEFINED = frozenset({"42P01", "42703"})
"""SQLSTATE of a table and of a column that is not there."""
CONNECT_SECONDS = 5
THREADS = 40
"""So many requests are answered at a time; none of them waits for a connection."""


class Database:
    """The engine of one process and its transactions. Make it after a fork, never before."""

    def __init__(self, url: str) -> None:
        self.engine = connect(url)

    @contextmanager
    def reading(self) -> Iterator[ReadSession]:
        """One consistent, read-only view."""
        engine = self.engine.execution_options(postgresql_readonly=True, isolation_level="REPEATABLE READ")
        with _translated(), Session(engine, expire_on_commit=False) as session:
            yield ReadSession(session)

    @contextmanager
    def writing(self) -> Iterator[WriteSession]:
        """Commits on leaving, then does what ``after_commit`` collected; an error rolls back and forgets it."""
        with _translated(), Session(self.engine, expire_on_commit=False) as session:
            yield WriteSession(ReadSession(session))
            session.commit()
            actions = session.info.pop(_AFTER_COMMIT, [])
        for action in actions:
            action()

    def close(self) -> None:
        self.engine.dispose()


def connect(url: str) -> Engine:
    """An engine that notices a restarted server instead of failing on a dead connection."""
    for scheme in ("postgresql://", "postgres://"):
        url = url.replace(scheme, "postgresql+psycopg://", 1) if url.startswith(scheme) else url
    return create_engine(
        url, pool_pre_ping=True, max_overflow=THREADS, connect_args={"connect_timeout": CONNECT_SECONDS}
    )


def after_commit(session: WriteSession, action: Callable[[], None]) -> None:
    """Do it once the rows are there for others to see; never if they are not."""
    session.info.setdefault(_AFTER_COMMIT, []).append(action)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if (known := translate(error)) is None:
            raise
        raise known from error


def translate(error: DBAPIError) -> AuditError | None:
    """Our error for one of the driver's, where it is not a mistake of ours."""
    if isinstance(error.orig, DiskFull):
        return StorageFull("The database has no space left.", remedy="Free space on the database's disk, then resume.")
    if isinstance(error, DataError):
        return InvalidInput(
            "A value cannot be stored: it holds a character or a number that the database has no place for.",
            remedy="Remove NUL characters and numbers beyond 64 bits.",
        )
    if getattr(error.orig, "sqlstate", None) in _UNDEFINED:
        return DatabaseBehind(
            "The database lacks a table or a column that this version of the service uses.",
            remedy="Run `audit-service migrate`.",
        )
    if _connection_lost(error):
        return DatabaseDown(
            "The database does not answer.",
            remedy="Start it, or set AUDIT_DATABASE_URL to one that runs; then try again.",
        )
    return None


def _connection_lost(error: DBAPIError) -> bool:
    """No SQLSTATE means that no server answered; class 08 and 57P are lost connections and shutdowns."""
    state = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or state is None or state.startswith(("08", "57P"))
