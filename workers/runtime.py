"""What one worker process keeps between tasks: its name, its database, and the model that it loaded last."""

import os
import socket
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import structlog

from audit_service.db.base import Owned
from audit_service.db.handles import Database
from audit_service.domain.plan import ModelIdentity
from audit_service.errors import DatabaseDown, NotFound
from audit_service.registry.inspection import verify_unchanged
from audit_service.settings import get_settings
from workers.engine.loading import load_subject
from workers.engine.subject import Subject


@dataclass(frozen=True, slots=True)
class Runtime:
    """The process as the tables know it."""

    name: str
    """ "worker:<host>:<process id>" """
    database: Database
    models: "Models"

    def of(self, table: type[Owned], row_id: str) -> "Runtime":
        """The process at work for the organisation of a row: it sees and writes no other's.

        Raises:
            NotFound: the row is not there.
        """
        with self.database.reading() as session:
            if (row := session.get(table, row_id)) is None:
                raise NotFound(f"There is no {table.__name__} {row_id}.", remedy="It may have been removed.")
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(organisation=row.organisation_id, row=row_id)
        return replace(self, database=self.database.acting_for(row.organisation_id))


class Models:
    """The last model that was loaded, trusted for as long as no file of it was touched."""

    def __init__(self) -> None:
        self._loaded: tuple[str, Path, _Stamp, Subject] | None = None

    def get(self, identity: ModelIdentity, path: Path) -> Subject:
        """The model of the plan.

        Raises:
            ModelChanged: the files in the folder are no longer those of the identity.
        """
        stamp = _stamp(path)
        if self._loaded is not None and self._loaded[:3] == (identity.digest, path, stamp):
            return self._loaded[3]
        self._loaded = None  # two models at once might not fit
        verify_unchanged(identity, path)
        subject = load_subject(path, dtype=identity.dtype, device=get_settings().device)
        self._loaded = (identity.digest, path, stamp, subject)
        return subject


_Stamp = frozenset[tuple[str, int, int]]


def _stamp(path: Path) -> _Stamp:
    """Name, size and time of change of every file: cheap to look at before each shard."""
    return frozenset(
        (str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns)
        for file in path.rglob("*")
        if file.is_file()
    )


@cache
def runtime() -> Runtime:
    """The process's own; made at the first task, so that nothing is shared over a fork."""
    url = get_settings().database_url
    if url is None:
        raise DatabaseDown("No database is set for this worker.", remedy="Start it with `audit-service worker`.")
    return Runtime(f"worker:{socket.gethostname()}:{os.getpid()}", Database(url), Models())
