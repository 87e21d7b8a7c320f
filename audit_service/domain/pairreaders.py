"""The rows of a pair file, one after the other: a file of any length takes no more memory than its longest row."""

import csv
import io
import json
from collections.abc import Iterator
from enum import StrEnum
from itertools import count
from typing import IO, Any, NamedTuple

from audit_service.errors import InvalidPairs

MIB = 1024 * 1024
LONGEST_LINE = 4 * MIB
"""Bytes of a line of CSV or JSON Lines."""
LARGEST_JSON = 16 * MIB
"""Bytes of a JSON list, which is read as a whole; JSON Lines hold more."""


class PairFormat(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"
    JSON = "json"


class Row(NamedTuple):
    """What stands in one row, not looked at yet."""

    number: int
    """As the user's editor or spreadsheet shows it: the first line is 1."""
    content: Any
    problem: str = "not an object with fields"
    """What is said of a row whose content is no object."""


def rows(file: IO[bytes], *, columns: frozenset[str], file_format: PairFormat) -> Iterator[Row]:
    """Raise InvalidPairs where the file is not of the format, or a CSV has other columns."""
    match file_format:
        case PairFormat.CSV:
            return _csv_rows(file, columns)
        case PairFormat.JSONL:
            return _jsonl_rows(file)
        case PairFormat.JSON:
            return _json_rows(file)


def _lines(file: IO[bytes]) -> Iterator[str]:
    """The lines with their ends; what breaks lines inside a JSON string, such as U+2028, is no end."""
    before = 0
    for number in count(1):
        line = file.readline(LONGEST_LINE)
        if not line:
            return
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            raise InvalidPairs(
                f"Line {number} has more than {LONGEST_LINE} bytes.", remedy="Send one pair on each line."
            )
        yield _decoded(line, number=number, before=before)
        before += len(line)


def _decoded(content: bytes, *, number: int = 1, before: int = 0) -> str:
    try:
        return content.decode("utf-8-sig" if before == 0 else "utf-8")
    except UnicodeDecodeError as error:
        line, byte = number + content[: error.start].count(b"\n"), before + error.start
        raise InvalidPairs(
            f"The file is not UTF-8 (line {line}, byte {byte}).", remedy="Save it as UTF-8 and send it again."
        ) from error


def _csv_rows(file: IO[bytes], columns: frozenset[str]) -> Iterator[Row]:
    parts = (part for line in _lines(file) for part in io.StringIO(line, newline=""))  # a lone \r ends a line too
    reader = csv.DictReader(parts, strict=True)
    try:
        if unknown := [column for column in reader.fieldnames or [] if column not in columns]:
            raise InvalidPairs(f"Unknown columns: {unknown}.", remedy=f"The columns are {', '.join(sorted(columns))}.")
        for cells in reader:
            surplus = None in cells
            filled = {column: cell for column, cell in cells.items() if column and cell}
            yield Row(reader.line_num, None if surplus else filled, "more cells than columns")
    except csv.Error as error:
        raise InvalidPairs(
            f"Line {max(1, reader.line_num)} is not CSV: {error}.",
            remedy="Quote cells that hold commas, quotes or line breaks.",
        ) from error


def _jsonl_rows(file: IO[bytes]) -> Iterator[Row]:
    for number, line in enumerate(_lines(file), start=1):
        if line.strip():
            yield _jsonl_row(number, line)


def _jsonl_row(number: int, line: str) -> Row:
    try:
        return Row(number, _json(line, "The line"))
    except InvalidPairs as error:
        return Row(number, None, error.message)


def _json_rows(file: IO[bytes]) -> Iterator[Row]:
    text = file.read(LARGEST_JSON + 1)
    if len(text) > LARGEST_JSON:
        raise InvalidPairs(
            f"A JSON list may have {LARGEST_JSON} bytes.", remedy="Send JSON Lines, one object on each line."
        )
    content = _json(_decoded(text), "The file") if text.strip() else []
    listed = content.get("pairs") if isinstance(content, dict) else content
    if not isinstance(listed, list):
        raise InvalidPairs(
            "The file is no list of pairs.", remedy='Send a JSON list, or an object with a list "pairs".'
        )
    yield from (Row(number, row) for number, row in enumerate(listed, start=1))


def _json(text: str, what: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidPairs(f"{what} is not JSON: {error}.", remedy="Correct it and send the file again.") from error
