"""A plain table with one prompt a row: which column is the prompt, which the group, which tells equal cases."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from audit_service.domain.pairfiles import PairRow
from audit_service.importing.formats import Format, Wrapping
from audit_service.importing.grouped import Matching, Prompt
from audit_service.importing.reading import Published, Row, Tally, table_rows


class Told(Published):
    prompt: str = Field(min_length=1)
    group: str = Field(min_length=1)
    case: str = Field(min_length=1)


@dataclass(frozen=True)
class Table(Format):
    data_set: ClassVar[str] = "A table of the user's own"

    attribute: str
    reference: str
    prompt_column: str = "prompt"
    group_column: str = "group"
    case_column: str = "case"
    """Rows with the same value are the same case, told of different groups."""

    @property
    def conversion(self) -> str:
        return (
            f"Column {self.prompt_column!r} is the prompt. Pairs are rows with one value of {self.case_column!r} that "
            f"differ in {self.group_column!r} (reference: {self.reference}). Cluster: case and group."
        )

    def pairs(self, text: io.TextIOWrapper, tally: Tally, wrapping: Wrapping) -> Iterator[PairRow]:
        columns = {"prompt": self.prompt_column, "group": self.group_column, "case": self.case_column}
        rows = table_rows(text, Told, tally, columns=columns)
        return Matching(self.attribute, self.reference).pairs(map(_prompt, rows), tally, wrapping)


def _prompt(row: Row[Told]) -> Prompt:
    told = row.content
    return Prompt(
        line=row.line,
        case=(told.case,),
        group=told.group,
        text=told.prompt,
        template="table",
        profile=told.case,
        cluster=told.case,
    )
