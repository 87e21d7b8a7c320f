"""Cells of a long sweep, kept on disk until the whole is written, so that a stopped command can go on."""

import io
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from audit_service.domain.manifest import digest
from audit_service.files import write_whole
from audit_service.registry.inspection import hashes
from workers.engine.progress import Cells


@dataclass(frozen=True, slots=True)
class Kept:
    """A folder of cells; its name holds the digest of everything that decides them."""

    folder: Path

    @classmethod
    def beside(cls, out: Path, *, model: Path, terms: Mapping[str, object]) -> Self:
        """The folder of this command's cells: the same model files and terms give the same one."""
        named = {"model": hashes(model), "terms": {name: str(term) for name, term in terms.items()}}
        return cls(out.with_name(f".{out.name}.{digest(named)[:16]}.cells"))

    def __call__(self, name: str, compute: Callable[[], Cells]) -> Cells:
        """What was kept under the name; computed and kept if nothing was."""
        path = self.folder / f"{name}.npy"
        if path.is_file():
            kept: Cells = np.load(path, allow_pickle=False)
            return kept
        cells = compute()
        file = io.BytesIO()
        np.save(file, cells, allow_pickle=False)
        write_whole(path, file.getvalue())
        return cells

    def remove(self) -> None:
        """The cells are in the result now."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)


def content_of(*options: str | None) -> list[str]:
    """Digests of the files that options such as add:FILE or features:FILE:3 name: their content decides, too."""
    parts = [Path(part) for option in options if option for part in option.split(":")]
    return [digest(path.read_bytes().hex()) for path in parts if path.is_file()]
