"""The formats that can be imported, and how a row of each becomes prompts.

A conversion is a generator: it takes rows as they are read and gives pairs as soon as both their sides are there.
"""

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from audit_service.domain.behaviors import FormKind, Labels
from audit_service.domain.pairfiles import PairRow
from audit_service.importing.reading import Tally

YES = (" Yes", "Yes", " yes", "yes")
NO = (" No", "No", " no", "no")


@dataclass(frozen=True)
class Wrapping:
    """How every prompt reaches the model."""

    form: FormKind = FormKind.TEXT
    suffix: str = ""

    def row(self, **fields: str) -> PairRow:
        """A pair row whose prompts end in the suffix."""
        for side in ("reference_prompt", "comparison_prompt"):
            fields[side] += self.suffix
        return PairRow(form=self.form.value, form_kind=self.form, **fields)


@dataclass(frozen=True)
class Format(ABC):
    """A published data set, or a shape of table, with the choices that its conversion takes."""

    data_set: ClassVar[str]
    limits: ClassVar[tuple[str, ...]] = ()

    @property
    def labels(self) -> Labels:
        """The answers that the prompts ask for."""
        return Labels(favorable=YES, unfavorable=NO)

    @property
    @abstractmethod
    def conversion(self) -> str:
        """How a row becomes a prompt, and what was chosen."""

    @abstractmethod
    def pairs(self, text: io.TextIOWrapper, tally: Tally, wrapping: Wrapping) -> Iterator[PairRow]:
        """The pairs of a file; what is wrong or left out is noted in the tally."""
