"""Rows of a file, one at a time, each checked against the format that was published."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from audit_service.domain.pairfiles import Problems, plain_problems
from audit_service.errors import InvalidPairs


class Published(BaseModel):
    """A row as its authors publish it. Columns beside those named are let through and not used."""

    model_config = ConfigDict(frozen=True, extra="ignore")


M = TypeVar("M", bound=Published)


@dataclass(frozen=True)
class Row(Generic[M]):
    line: int
    """The first line of the file is 1."""
    content: M


@dataclass
class Tally:
    """What was met on the way through the file."""

    rows: int = 0
    problems: Problems = field(default_factory=Problems)
    left_out: dict[str, int] = field(default_factory=dict)

    def problem(self, line: int, what: str) -> None:
        self.problems.add(f"line {line}: {what}")

    def leave_out(self, why: str, count: int = 1) -> None:
        if count:
            self.left_out[why] = self.left_out.get(why, 0) + count


class Hashed(io.RawIOBase):
    """A file that is hashed as it is read to its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - whatever the buffering above offers
        some = self._file.read(len(buffer))
        self._hash.update(some)
        buffer[: len(some)] = some
        return len(some)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def json_rows(text: io.TextIOWrapper, kind: type[M], tally: Tally) -> Iterator[Row[M]]:
    """The objects of a file with one JSON object a line; a line that is none is noted and passed over."""
    for line, content in enumerate(text, start=1):
        if not content.strip():
            continue
        try:
            fields = json.loads(content)
        except (ValueError, RecursionError) as error:
            tally.rows += 1
            tally.problem(line, f"not JSON: {error}")
        else:
            yield from _checked(line, fields, kind, tally)


def table_rows(
    text: io.TextIOWrapper,
    kind: type[M],
    tally: Tally,
    *,
    delimiter: str = ",",
    columns: Mapping[str, str] | None = None,
) -> Iterator[Row[M]]:
    """The rows of a table with a header. ``columns``: field → its column, where the file calls it otherwise.

    Cells in quotes may hold line breaks; a row is named by its last line.

    Raises:
        InvalidPairs: a column is missing, or what follows cannot be told apart into cells.
    """
    names = {field: field for field in kind.model_fields} | dict(columns or {})
    reader = csv.DictReader(text, delimiter=delimiter, quoting=_QUOTING[delimiter], strict=True)
    try:
        _expect_columns(names.values(), reader.fieldnames or [])
        for cells in reader:
            if None in cells or None in cells.values():
                tally.rows += 1
                tally.problem(reader.line_num, "more or fewer cells than the header has")
            else:
                named = {field: cells[column] for field, column in names.items()}
                yield from _checked(reader.line_num, named, kind, tally)
    except csv.Error as error:
        raise InvalidPairs(
            f"Line {max(1, reader.line_num)} is no row of a table: {error}.",
            remedy="Take the file as its authors published it, or quote cells that hold separators or quotes.",
        ) from error


_QUOTING: Mapping[str, Literal[0, 3]] = {",": csv.QUOTE_MINIMAL, "\t": csv.QUOTE_NONE}


def _expect_columns(wanted: Iterable[str], found: Sequence[str]) -> None:
    if missing := [name for name in wanted if name not in found]:
        said = ", ".join(map(repr, found)) or "none"
        raise InvalidPairs(
            f"The header has no column {', '.join(map(repr, missing))}; it has {said}.",
            remedy="Take the file as its authors published it, or name its columns with the command's options.",
        )


def _checked(line: int, fields: Any, kind: type[M], tally: Tally) -> Iterator[Row[M]]:  # noqa: ANN401 - any JSON value
    tally.rows += 1
    try:
        yield Row(line, kind.model_validate(fields))
    except ValidationError as error:
        for found in plain_problems(error):
            tally.problem(line, found)
