"""From a file of a known format to a pair file, row by row, whole or not at all."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

from audit_service.domain.pairfiles import PairRow
from audit_service.domain.provenance import Provenance
from audit_service.errors import InvalidInput, InvalidPairs
from audit_service.files import write_whole
from audit_service.importing.formats import Format, Wrapping
from audit_service.importing.reading import Hashed, Tally

CUES_SHOWN = 12
"""Of each group, for the behavior that goes with the pairs."""


@dataclass
class Imported:
    """What came of a file."""

    provenance: Provenance
    pairs: int = 0
    groups: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Attribute → group → some of its cues; the reference group is first."""


def convert(source: Path, made_as: Format, wrapping: Wrapping, *, target: Path) -> Imported:
    """Write the pairs of the source as JSON lines, their provenance last.

    Rows are written as they come; what is kept in memory are the prompts that may still find a partner.

    Raises:
        InvalidPairs: rows are malformed, each named by its line, or no pair came of them. Nothing is written.
        InvalidInput: a path cannot be read or written.
    """
    work = _Conversion(source, made_as, wrapping)
    try:
        with source.open("rb") as file:
            write_whole(target, map(_line, work.lines(file)))
    except UnicodeDecodeError as error:
        raise InvalidPairs(
            f"{source.name} is not UTF-8 (after row {work.tally.rows}): {error.reason}.", remedy="Save it as UTF-8."
        ) from error
    except FileNotFoundError as error:
        raise InvalidInput(f"{source} cannot be read: {error.strerror}.", remedy="Check the path.") from error
    return Imported(work.provenance, pairs=work.count, groups=work.groups)


class _Conversion:
    """One pass through a source."""

    def __init__(self, source: Path, made_as: Format, wrapping: Wrapping) -> None:
        self._source, self._made_as, self._wrapping = source, made_as, wrapping
        self.tally = Tally()
        self.count = 0
        self.groups: dict[str, dict[str, list[str]]] = {}
        self.provenance: Provenance

    def lines(self, file: BinaryIO) -> Iterator[dict[str, Any]]:
        """The lines of the pair file."""
        hashed = Hashed(file)
        text = io.TextIOWrapper(io.BufferedReader(hashed), encoding="utf-8-sig", newline="")
        for row in self._made_as.pairs(text, self.tally, self._wrapping):
            if not self.tally.problems:  # with one, the file is only read on to name the others
                self._note(row)
                yield row.model_dump(mode="json", exclude_defaults=True)
        self._refuse()
        self.provenance = Provenance(
            data_set=self._made_as.data_set,
            file=self._source.name,
            sha256=hashed.hexdigest(),
            rows=self.tally.rows,
            left_out=self.tally.left_out,
            conversion=self._made_as.conversion,
            limits=self._made_as.limits,
            converter=f"audit-service {version('audit-service')}",
        )
        yield {"provenance": self.provenance.model_dump(mode="json")}

    def _note(self, row: PairRow) -> None:
        pair = row.pair(self.count)
        self.count += 1
        groups = self.groups.setdefault(row.attribute, {})
        for group, cue in ((row.reference_group, pair.reference_cue), (row.comparison_group, pair.comparison_cue)):
            cues = groups.setdefault(group, [])
            if len(cues) < CUES_SHOWN and cue and cue not in cues:
                cues.append(cue)

    def _refuse(self) -> None:
        if self.tally.problems:
            raise self.tally.problems.error()
        if not self.count:
            raise InvalidPairs(
                f"No pair came of {self.tally.rows} rows.",
                remedy="Check the format, the attribute and the reference group.",
                details=[f"{count} rows: {why}" for why, count in self.tally.left_out.items()],
            )


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode() + b"\n"
