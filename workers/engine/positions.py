"""Which activation rows of the donor replace which of the recipient."""

import re
from typing import NamedTuple

from audit_service.domain.plan import Mapping
from audit_service.domain.sites import ALL, Site, SiteKind
from audit_service.errors import InvalidTrace
from workers.engine.changes import Part, Value
from workers.engine.tokens import EncodedPrompt


class Exchange(NamedTuple):
    """One site on token positions: the recipient's rows and, in the same order, the donor's."""

    kind: SiteKind
    layer: int
    head: int | None
    recipient: tuple[int, ...]
    donor: tuple[int, ...]
    part: Part | None = None
    """Which coordinates of the activation; all without one."""
    value: Value | None = None
    """What they become; the donor's without one."""

    @property
    def name(self) -> str:
        head = "" if self.head is None else f", head {self.head}"
        return f"{self.kind} at layer {self.layer}{head}"

    @property
    def is_whole(self) -> bool:
        """Whether the donor's activation simply replaces the recipient's."""
        return self.part is None and self.value is None


def exchange_of(site: Site, recipient: EncodedPrompt, donor: EncodedPrompt, mapping: Mapping) -> Exchange:
    """Resolve a site's segment on both sides; InvalidTrace if the segment is unknown, empty or must not differ."""
    names = list(recipient.spans) if site.segment == ALL else [site.segment]
    pairs = [pair for name in names for pair in _mapped(name, recipient, donor, mapping)]
    if not pairs:
        raise InvalidTrace(
            f"segment {site.segment!r} has no token on one of the two sides, so site {site.key} cannot be patched",
            remedy="leave the segment out of the plan, or declare segments that hold tokens",
        )
    to, by = (tuple(side) for side in zip(*sorted(pairs), strict=True))
    return Exchange(site.kind, site.layer, site.head, to, by)


TOKENS = re.compile(r"t(?P<first>\d+)(-(?P<last>\d+))?")
"""Name of single tokens where a segment's could stand, such as t12 or t12-15."""


def _mapped(name: str, recipient: EncodedPrompt, donor: EncodedPrompt, mapping: Mapping) -> list[tuple[int, int]]:
    if name not in recipient.spans and (tokens := TOKENS.fullmatch(name)):
        return _numbered(tokens, recipient, donor)
    if name not in recipient.spans:
        raise InvalidTrace(
            f"segment {name!r} is not declared", remedy=f"use one of {', '.join(recipient.spans)} or {ALL}"
        )
    to, by = recipient.spans[name], donor.spans[name]
    if mapping is Mapping.EQUAL_ONLY and len(to) != len(by):
        raise InvalidTrace(
            f"segment {name!r} has {len(to)} tokens on one side and {len(by)} on the other",
            remedy="use cues of equal token length, or declare the mapping right_aligned",
        )
    shared = min(len(to), len(by))
    return list(zip(to[len(to) - shared :], by[len(by) - shared :], strict=True))


def _numbered(tokens: re.Match[str], recipient: EncodedPrompt, donor: EncodedPrompt) -> list[tuple[int, int]]:
    """Positions given by number; they have a counterpart only in a prompt of the same length."""
    first = int(tokens["first"])
    last = int(tokens["last"] or first)
    if len(recipient.ids) != len(donor.ids) or not first <= last < len(recipient.ids):
        raise InvalidTrace(
            f"tokens {first} to {last} are asked for in prompts of {len(recipient.ids)} and {len(donor.ids)} tokens",
            remedy="count tokens from 0 in prompts of equal length, or name a segment",
        )
    return [(at, at) for at in range(first, last + 1)]


def token_positions(name: str, prompt: EncodedPrompt) -> tuple[int, ...]:
    """The positions of a segment, or of tokens by number, in one prompt; InvalidTrace if there are none."""
    found = exchange_of(Site(SiteKind.RESID_PRE, 0, None, name), prompt, prompt, Mapping.EQUAL_ONLY)
    return found.recipient
