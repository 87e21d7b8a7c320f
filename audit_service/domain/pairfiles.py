"""Pair files as people write them: CSV, JSONL or JSON, every bad row named at once."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import Field, ValidationError

from audit_service.domain.behaviors import FormKind
from audit_service.domain.manifest import Frozen
from audit_service.domain.pairs import Pair, PairKind, PairSet, Segment
from audit_service.domain.provenance import Provenance
from audit_service.errors import InvalidPairs

NAMED_ROWS = 20
"""So many bad rows are named; the rest are counted."""


class PairFormat(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"
    JSON = "json"


class PairRow(Frozen):
    """One row of a pair file: two whole prompts, what they stand for, and no segments, which are derived."""

    attribute: str = Field(min_length=1)
    reference_group: str = Field(min_length=1)
    comparison_group: str = Field(min_length=1)
    """Equal to the reference group in a placebo row."""
    reference_prompt: str = Field(min_length=1)
    comparison_prompt: str = Field(min_length=1)
    id: str | None = None
    form: str = "text"
    form_kind: FormKind = FormKind.TEXT
    system: str | None = None
    template: str = "uploaded"
    profile: str = "uploaded"
    cluster: str | None = None
    """Rows that share a cue or a person; default is template and cues, one cluster for each pair of cues."""

    def pair(self, number: int) -> Pair:
        before, reference, comparison, after = _split(self.reference_prompt, self.comparison_prompt)
        cues = reference.strip(), comparison.strip()
        placebo = self.reference_group == self.comparison_group
        return Pair(
            id=self.id or f"row-{number}",
            kind=PairKind.PLACEBO if placebo else PairKind.CONTRAST,
            form=self.form,
            form_kind=self.form_kind,
            system=self.system,
            attribute=self.attribute,
            reference_group=self.reference_group,
            comparison_group=self.comparison_group,
            template=self.template,
            profile=self.profile,
            reference_cue=cues[0],
            comparison_cue=cues[1],
            cluster=self.cluster or f"{self.template}|{cues[0]}~{cues[1]}",
            segments=(
                Segment(name="before", reference=before, comparison=before),
                Segment(name="cue", reference=reference, comparison=comparison),
                Segment(name="after", reference=after, comparison=after),
            ),
        )


class _Row(NamedTuple):
    number: int
    """As the user's editor or spreadsheet shows it: the first line is 1."""
    content: Any
    problem: str = "not an object with fields"
    """What is said of a row whose content is no object."""


def parse_pairs(content: bytes, *, name: str, file_format: PairFormat) -> PairSet:
    """The pair set of a file.

    JSON and JSONL rows are either whole ``Pair`` objects or, like CSV rows, ``PairRow`` objects; one of them may
    instead be ``{"provenance": …}``, as importing a published data set leaves it.

    Raises:
        InvalidPairs: the file is empty or not of the format, or rows are bad; each is named by its number.
    """
    pairs: list[tuple[int, Pair]] = []
    provenance: Provenance | None = None
    problems: list[str] = []
    for row in _READERS[file_format](_decoded(content)):
        try:
            if _tells_provenance(row):
                provenance = _provenance(row, known=provenance)
            else:
                pairs.append((row.number, _pair(row)))
        except ValidationError as error:
            problems += [f"row {row.number}: {problem}" for problem in plain_problems(error)]
        except ValueError as error:
            problems.append(f"row {row.number}: {error}")
    problems += _repeated(pairs)
    if problems:
        raise bad_rows(problems)
    if not pairs:
        raise InvalidPairs("The file holds no pairs.", remedy="Send at least one pair.")
    return PairSet(name=name, pairs=tuple(pair for _, pair in pairs), provenance=provenance)


def plain_problems(error: ValidationError) -> list[str]:
    """Pydantic's findings as "field: what is wrong with it"."""
    return [f"{'.'.join(map(str, found['loc'])) or 'value'}: {found['msg']}" for found in error.errors()]


def _tells_provenance(row: _Row) -> bool:
    return isinstance(row.content, dict) and row.content.keys() == {"provenance"}


def _provenance(row: _Row, *, known: Provenance | None) -> Provenance:
    if known is not None:
        raise ValueError("the file tells its provenance twice")
    return Provenance.model_validate_json(json.dumps(row.content["provenance"]))


def _pair(row: _Row) -> Pair:
    if not isinstance(row.content, dict):
        raise ValueError(row.problem)  # noqa: TRY004 - named with its row like all other problems
    text = json.dumps(row.content)
    if "segments" in row.content:
        return Pair.model_validate_json(text)
    return PairRow.model_validate_json(text).pair(row.number)


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidPairs(
            f"The file is not UTF-8 (line {line}, byte {error.start}).", remedy="Save it as UTF-8 and send it again."
        ) from error


def _csv_rows(text: str) -> Iterator[_Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    known = set(PairRow.model_fields)
    try:
        if unknown := [column for column in reader.fieldnames or [] if column not in known]:
            raise InvalidPairs(f"Unknown columns: {unknown}.", remedy=f"The columns are {', '.join(sorted(known))}.")
        for cells in reader:
            surplus = None in cells
            filled = {column: cell for column, cell in cells.items() if column and cell}
            yield _Row(reader.line_num, None if surplus else filled, "more cells than columns")
    except csv.Error as error:
        raise InvalidPairs(
            f"Line {max(1, reader.line_num)} is not CSV: {error}.",
            remedy="Quote cells that hold commas, quotes or line breaks.",
        ) from error


def _jsonl_rows(text: str) -> Iterator[_Row]:
    for number, line in enumerate(text.split("\n"), start=1):  # JSON strings may hold other signs that break lines
        if line.strip():
            yield _jsonl_row(number, line)


def _jsonl_row(number: int, line: str) -> _Row:
    try:
        return _Row(number, _json(line, "The line"))
    except InvalidPairs as error:
        return _Row(number, None, error.message)


def _json_rows(text: str) -> Iterator[_Row]:
    content = _json(text, "The file") if text.strip() else []
    rows = content.get("pairs") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise InvalidPairs(
            "The file is no list of pairs.", remedy='Send a JSON list, or an object with a list "pairs".'
        )
    yield from (_Row(number, row) for number, row in enumerate(rows, start=1))


def _json(text: str, what: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidPairs(f"{what} is not JSON: {error}.", remedy="Correct it and send the file again.") from error


_READERS = {PairFormat.CSV: _csv_rows, PairFormat.JSONL: _jsonl_rows, PairFormat.JSON: _json_rows}


def _repeated(pairs: list[tuple[int, Pair]]) -> Iterator[str]:
    counts = Counter(pair.id for _, pair in pairs)
    for number, pair in pairs:
        if counts[pair.id] > 1:
            yield f"row {number}: id {pair.id!r} is used {counts[pair.id]} times"


def bad_rows(problems: list[str]) -> InvalidPairs:
    """The error that names the first rows and counts the rest."""
    more = len(problems) - NAMED_ROWS
    return InvalidPairs(
        f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in the pair file; nothing was stored.",
        remedy="Correct the rows named and send the whole file again.",
        details=problems[:NAMED_ROWS] + ([f"and {more} more"] if more > 0 else []),
    )


def _split(reference: str, comparison: str) -> tuple[str, str, str, str]:
    """(before, reference cue, comparison cue, after): the texts' common ends, cut back to whole words."""
    both = reference, comparison
    before = _common_start(reference, comparison)
    while before > 0 and any(_inside_word(text, before) for text in both):
        before -= 1
    after = _common_start(reference[before:][::-1], comparison[before:][::-1])
    while after > 0 and any(_inside_word(text, len(text) - after) for text in both):
        after -= 1
    ends = [len(text) - after for text in both]
    return reference[:before], reference[before : ends[0]], comparison[before : ends[1]], reference[ends[0] :]


def _common_start(one: str, other: str) -> int:
    """Length of it. Halving compares long equal stretches at a time, which matters at 100,000 rows."""
    same, end = 0, min(len(one), len(other))
    while same < end:
        middle = (same + end + 1) // 2
        if one[same:middle] == other[same:middle]:
            same = middle
        else:
            end = middle - 1
    return same


def _inside_word(text: str, position: int) -> bool:
    """Whether a cut before ``position`` splits a word; scripts that write no spaces (Chinese) have no such words."""
    return 0 < position < len(text) and all(_spells_words(sign) for sign in text[position - 1 : position + 1])


def _spells_words(sign: str) -> bool:
    return sign.isdigit() or sign.lower() != sign.upper()
