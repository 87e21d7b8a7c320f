"""Temporary folders that more than one user can enter."""

import shutil
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
