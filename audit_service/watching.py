"""A folder that is watched: FOLDER/NAME/VERSION becomes a model version once it is completely there."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audit_service.client import Client
from audit_service.errors import AuditError, InvalidInput, Unavailable
from audit_service.registry.schemas import Dtype, ModelVersionCreate

Stamp = frozenset[tuple[str, int, int]]


@dataclass
class _Seen:
    """How a folder looked, since when, and whether that was dealt with."""

    stamp: Stamp
    since: float
    settled: bool = False


class Watch:
    """Registers each version folder when nothing in it has changed for ``settle_s`` seconds.

    A copy that stands still halfway is refused by its contents (missing or cut-off files), said once, and looked at
    again when it changes. What is registered already stays as it is.
    """

    def __init__(self, client: Client, root: Path, *, dtype: Dtype, settle_s: float) -> None:
        if not root.is_dir():
            raise InvalidInput(f"{root} is no folder.", remedy="Name the folder that holds NAME/VERSION folders.")
        self._client, self._root = client, root.absolute()
        self._dtype, self._settle_s = dtype, settle_s
        self._seen: dict[Path, _Seen] = {}

    def look(self, now: float) -> Iterator[str]:
        """Look once, at a time in seconds; what was done, in words."""
        found = list(_versions(self._root))
        self._seen = {folder: seen for folder, seen in self._seen.items() if folder in found}
        for folder in found:
            stamp = _stamp(folder)
            seen = self._seen.get(folder)
            if seen is None or seen.stamp != stamp:
                seen = self._seen[folder] = _Seen(stamp, now)
            if stamp and not seen.settled and now - seen.since >= self._settle_s:
                yield self._register(folder, seen)

    def _register(self, folder: Path, seen: _Seen) -> str:
        name, version = folder.parent.name, folder.name
        wanted = ModelVersionCreate(name=name, version=version, path=str(folder), dtype=self._dtype)
        try:
            made = self._client.register_model(wanted)
        except Unavailable as error:
            return f"{name} {version} waits: {error.message}"
        except AuditError as error:
            seen.settled = True
            return f"{name} {version} is not registered: {error}"
        seen.settled = True
        return f"{name} {version} is registered: {made.digest[:12]}"


def watch(client: Client, root: Path, *, dtype: Dtype, settle_s: float, every_s: float) -> Iterator[str]:
    """Look again and again; what was done, as it is done."""
    watched = Watch(client, root, dtype=dtype, settle_s=settle_s)
    while True:
        yield from watched.look(time.monotonic())
        time.sleep(every_s)


def _versions(root: Path) -> Iterator[Path]:
    """Folders two levels down; hidden ones are somebody's unfinished work."""
    for name in sorted(root.iterdir()):
        if name.is_dir() and not name.name.startswith("."):
            yield from (part for part in sorted(name.iterdir()) if part.is_dir() and not part.name.startswith("."))


def _stamp(folder: Path) -> Stamp:
    """Name, size and time of change of every file."""
    found = []
    for file in folder.rglob("*"):
        try:
            status = file.stat()
        except FileNotFoundError:  # moved away while we look
            continue
        if file.is_file():
            found.append((str(file.relative_to(folder)), status.st_size, status.st_mtime_ns))
    return frozenset(found)
