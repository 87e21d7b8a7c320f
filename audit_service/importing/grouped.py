"""Prompts that come one a row and are matched into pairs: the same case, told of two groups."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from audit_service.domain.pairfiles import PairRow
from audit_service.importing.formats import Wrapping
from audit_service.importing.reading import Tally


class Prompt(NamedTuple):
    line: int
    case: tuple[str, ...]
    """All that must be equal on both sides."""
    group: str
    text: str
    template: str
    profile: str
    cluster: str


@dataclass(frozen=True)
class Matching:
    """Which attribute is varied, and which of its groups the others are compared with."""

    attribute: str
    reference: str

    def pairs(self, prompts: Iterator[Prompt], tally: Tally, wrapping: Wrapping) -> Iterator[PairRow]:
        """Each prompt of another group beside the reference prompt of its case.

        A prompt waits only until the reference of its case has come. Cases without one are left out, and prompts that
        are equal to their reference, since nothing would be compared.
        """
        references: dict[tuple[str, ...], Prompt] = {}
        waiting: dict[tuple[str, ...], list[Prompt]] = {}
        seen: dict[tuple[str, ...], int] = {}
        for prompt in prompts:
            identity = (*prompt.case, prompt.group)
            if identity in seen:
                tally.problem(
                    prompt.line, f"group {prompt.group!r} of this case stands in line {seen[identity]} already"
                )
                continue
            seen[identity] = prompt.line
            if prompt.group == self.reference:
                references[prompt.case] = prompt
                for other in waiting.pop(prompt.case, []):
                    yield from self._pair(prompt, other, tally, wrapping)
            elif prompt.case in references:
                yield from self._pair(references[prompt.case], prompt, tally, wrapping)
            else:
                waiting.setdefault(prompt.case, []).append(prompt)
        tally.leave_out(f"no prompt of the reference group {self.reference!r}", sum(map(len, waiting.values())))

    def _pair(self, reference: Prompt, other: Prompt, tally: Tally, wrapping: Wrapping) -> Iterator[PairRow]:
        if reference.text == other.text:
            tally.leave_out("prompts equal for both groups")
            return
        yield wrapping.row(
            id=f"line-{reference.line}-{other.line}",
            attribute=self.attribute,
            reference_group=self.reference,
            comparison_group=other.group,
            reference_prompt=reference.text,
            comparison_prompt=other.text,
            template=other.template,
            profile=other.profile,
            cluster=f"{other.cluster}|{other.group}",
        )
