"""The door to Postgres. Leaving a ``writing`` block commits; nothing else does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import NewType

from psycopg.errors import DiskFull
from sqlalchemy import Engine, create_engine, event, func, select
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from audit_service.db.base import Offered, Owned
from audit_service.errors import AuditError, DatabaseBehind, DatabaseDown, InvalidInput, StorageFull

ReadSession = NewType("ReadSession", Session)
"""A session in a READ ONLY transaction."""
WriteSession = NewType("WriteSession", ReadSession)
"""A session that may write; it can be handed to whatever only reads."""

TENANT_ROLE = "audit_tenant"
"""The database role that row-level security holds for; the login must be allowed to take it."""
_AFTER_COMMIT = "after_commit"
_WHOM = "whom"
_UNDEFINED = frozenset({"42P01", "42703", "22023"})
"""SQLSTATE of a table, a column and a role that is not there."""
CONNECT_SECONDS = 5
THREADS = 40
"""So many requests are answered at a time; none of them waits for a connection."""


@dataclass(frozen=True, slots=True)
class Acting:
    """For whom a transaction is. Every part that is not said is nobody."""

    organisation_id: str | None = None
    user_id: str | None = None
    person_id: str | None = None
    """Who answers for it: the person who asks, or who made the service's token that does."""
    email: str | None = None
    """Of who wants to sign in and is not known yet."""
    token_id: str | None = None
    address: str | None = None
    """By which token and from where it was asked for; for the event log."""


NOBODY = Acting()


class _Session(Session):
    """A session whose queries see the rows of the organisation that it acts for, and of no other."""


class Database:
    """The engine of one process and its transactions. Make it after a fork, never before.

    As it is made, it acts for the service itself and sees everything: for migrations, and for workers that look
    after the runs of all organisations. ``acting`` gives the door for everybody else. Two walls stand behind it: the
    session adds the organisation to each query, and Postgres hides other organisations' rows from the role that
    such a transaction takes (row-level security), whatever the query says.
    """

    def __init__(self, url: str) -> None:
        self.engine = connect(url)
        self.whom: Acting | None = None

    def acting(self, whom: Acting) -> "Database":
        """The same engine, with transactions for ``whom``."""
        other = copy(self)
        other.whom = whom
        return other

    def acting_for(self, organisation_id: str) -> "Database":
        return self.acting(Acting(organisation_id))

    @contextmanager
    def reading(self) -> Iterator[ReadSession]:
        """One consistent, read-only view."""
        engine = self.engine.execution_options(postgresql_readonly=True, isolation_level="REPEATABLE READ")
        with _translated(), _Session(engine, expire_on_commit=False) as session:
            if self.whom is not None:
                act(session, self.whom)
            yield ReadSession(session)

    @contextmanager
    def writing(self) -> Iterator[WriteSession]:
        """Commits on leaving, then does what ``after_commit`` collected; an error rolls back and forgets it."""
        with _translated(), _Session(self.engine, expire_on_commit=False) as session:
            if self.whom is not None:
                act(session, self.whom)
            yield WriteSession(ReadSession(session))
            session.commit()
            actions = session.info.pop(_AFTER_COMMIT, [])
        for action in actions:
            action()

    def close(self) -> None:
        self.engine.dispose()


def act(session: Session, acting: Acting) -> None:
    """Let the rest of the transaction be for ``acting``, and for nobody else."""
    values = {
        "role": TENANT_ROLE,
        "audit.organisation": acting.organisation_id,
        "audit.user": acting.user_id,
        "audit.email": acting.email,
    }
    session.execute(select(*(func.set_config(name, value or "", True) for name, value in values.items())))
    session.info[_WHOM] = acting


def whom(session: Session) -> Acting:
    """For whom the transaction is; nobody for the service's own."""
    acting: Acting = session.info.get(_WHOM, NOBODY)
    return acting


@event.listens_for(_Session, "do_orm_execute")
def _within_the_organisation(asked: ORMExecuteState) -> None:
    """The first wall: whatever is asked for, it is asked within the organisation."""
    organisation_id = whom(asked.session).organisation_id
    if organisation_id is None or asked.is_column_load or asked.is_relationship_load:
        return
    asked.statement = asked.statement.options(
        with_loader_criteria(Owned, lambda row: row.organisation_id == organisation_id, include_aliases=True),
        with_loader_criteria(
            Offered,
            lambda row: row.organisation_id.is_(None) | (row.organisation_id == organisation_id),
            include_aliases=True,
        ),
    )


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
    if getattr(error.orig, "sqlstate", None) in _UNDEFINED:
        return DatabaseBehind(
            "The database lacks a table, a column or a role that this version of the service uses.",
            remedy="Run `audit-service migrate`.",
        )
    if isinstance(error, DataError):
        return InvalidInput(
            "A value cannot be stored: it holds a character or a number that the database has no place for.",
            remedy="Remove NUL characters and numbers beyond 64 bits.",
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
