"""Folders that more than one user can enter, and ports that nobody listens on."""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that Postgres can enter when root has to start it as another user; pytest's own are closed."""
    path = Path(tempfile.mkdtemp(prefix="audit-test-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def free_port() -> int:
    """A port of this machine on which nothing answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
