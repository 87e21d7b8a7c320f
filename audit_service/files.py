"""Files that a command reads, or leaves behind: whole or not at all."""

import errno
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from audit_service.errors import InvalidInput, StorageFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def read_whole(path: Path) -> bytes:
    """Read a file that a user named; InvalidInput if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.", remedy="Check the path.") from error


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(text)
    part.replace(path)


def write_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write beside the target and move into place; folders on the way are made. Content may come in pieces.

    Raises:
        StorageFull: the disk or the user's share of it is full.
        InvalidInput: the path cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
        part.replace(path)
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(
                f"No space is left for {path}.", remedy="Free space and run the command again."
            ) from error
        raise InvalidInput(f"{path} cannot be written: {error.strerror}.", remedy="Name a path that can.") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)  # it is there only if something went wrong
