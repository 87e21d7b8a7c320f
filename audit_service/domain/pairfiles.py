"""Pair files as people write them: CSV, JSONL or JSON, every bad row named at once."""

import io
import json
from collections.abc import Iterator
from typing import IO

from pydantic import Field, ValidationError

from audit_service.domain.behaviors import FormKind
from audit_service.domain.manifest import Frozen
from audit_service.domain.pairreaders import PairFormat, Row, rows
from audit_service.domain.pairs import Pair, PairKind, PairSet, Segment
from audit_service.domain.provenance import Provenance
from audit_service.errors import InvalidPairs

NAMED_ROWS = 20
"""So many bad rows are named; the rest are counted."""


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
        """The pair that the row tells of; its number is its name if it has none."""
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


_COLUMNS = frozenset(PairRow.model_fields)


class Problems:
    """What is wrong with a file: its first rows by name, the others counted."""

    def __init__(self) -> None:
        self._named: list[str] = []
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, problem: str) -> None:
        self._count += 1
        if len(self._named) < NAMED_ROWS:
            self._named.append(problem)

    def error(self) -> InvalidPairs:
        more = self._count - len(self._named)
        return InvalidPairs(
            f"{self._count} problem{'s' if self._count > 1 else ''} in the pair file; nothing was stored.",
            remedy="Correct the rows named and send the whole file again.",
            details=self._named + ([f"and {more} more"] if more else []),
        )


def read_pairs(file: IO[bytes], *, file_format: PairFormat) -> Iterator[Pair | Provenance]:
    """The pairs of a file in their order, as they are read, and its provenance where that stands.

    JSON and JSONL rows are either whole ``Pair`` objects or, like CSV rows, ``PairRow`` objects; one of them may
    instead be ``{"provenance": …}``, as importing a published data set leaves it. Nothing is kept but the ids.

    Raises:
        InvalidPairs: the file is empty or not of the format, or rows are bad; each is named by its number. This is
            known at the end of the file alone.
    """
    problems, seen = Problems(), _Seen()
    for row in rows(file, columns=_COLUMNS, file_format=file_format):
        try:
            value = seen.noted(_value(row), row.number)
        except ValueError as error:
            for problem in plain_problems(error) if isinstance(error, ValidationError) else [error]:
                problems.add(f"row {row.number}: {problem}")
        else:
            if not problems:  # with one, the file is only read on to name the others
                yield value
    for problem in seen.repeated():
        problems.add(problem)
    if problems:
        raise problems.error()
    if not seen.ids:
        raise InvalidPairs("The file holds no pairs.", remedy="Send at least one pair.")


def parse_pairs(content: bytes, *, name: str, file_format: PairFormat) -> PairSet:
    """The pair set of a whole file that is in memory; see ``read_pairs``."""
    values = list(read_pairs(io.BytesIO(content), file_format=file_format))
    return PairSet(
        name=name,
        pairs=tuple(value for value in values if isinstance(value, Pair)),
        provenance=next((value for value in values if isinstance(value, Provenance)), None),
    )


def plain_problems(error: ValidationError) -> list[str]:
    """Pydantic's findings as "field: what is wrong with it"."""
    return [f"{'.'.join(map(str, found['loc'])) or 'value'}: {found['msg']}" for found in error.errors()]


def _value(row: Row) -> Pair | Provenance:
    if not isinstance(row.content, dict):
        raise ValueError(row.problem)  # noqa: TRY004 - named with its row like all other problems
    if row.content.keys() == {"provenance"}:
        return Provenance.model_validate_json(json.dumps(row.content["provenance"]))
    text = json.dumps(row.content)
    if "segments" in row.content:
        return Pair.model_validate_json(text)
    return PairRow.model_validate_json(text).pair(row.number)


class _Seen:
    """What may stand in a file once only."""

    def __init__(self) -> None:
        self.ids: dict[str, list[int]] = {}
        self._provenance = False

    def noted(self, value: Pair | Provenance, number: int) -> Pair | Provenance:
        if isinstance(value, Pair):
            self.ids.setdefault(value.id, []).append(number)
        elif self._provenance:
            raise ValueError("the file tells its provenance twice")
        else:
            self._provenance = True
        return value

    def repeated(self) -> Iterator[str]:
        again = sorted((number, name) for name, numbers in self.ids.items() if len(numbers) > 1 for number in numbers)
        for number, name in again:
            yield f"row {number}: id {name!r} is used {len(self.ids[name])} times"


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
