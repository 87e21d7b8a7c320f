"""What one worker process keeps between tasks: its name, its database, and the model that it loaded last."""

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from audit_service.db.handles import Database
from audit_service.domain.plan import ModelIdentity
from audit_service.errors import DatabaseDown
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
        subject = load_subject(path, dtype=identity.dtype)
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
