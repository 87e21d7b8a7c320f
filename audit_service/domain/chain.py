"""The rule of every hash chain here: each entry names the digest of the one before, and has one of its own.

Whoever has the entries can check them with ``first_break`` and a SHA-256; nothing else of the service is needed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from audit_service.domain.manifest import digest

Entry = Mapping[str, Any]


class Break(NamedTuple):
    """The first place where a chain does not hold."""

    number: int
    """The entry's number, from 1."""
    why: str


def sealed(entry: Entry, *, previous: str) -> dict[str, Any]:
    """The entry with the digest before it and its own: SHA-256 of its canonical JSON with ``previous``."""
    chained = {**entry, "previous": previous}
    return chained | {"digest": digest(chained)}


def chained(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The entries as a chain of their own; before the first stands the empty text."""
    links: list[dict[str, Any]] = []
    for entry in entries:
        links.append(sealed(entry, previous=links[-1]["digest"] if links else ""))
    return links


def first_break(entries: Iterable[Entry], *, previous: str = "", number: int = 1) -> Break | None:
    """Where the numbered entries stop being a chain that begins after ``previous``; none if they are one.

    What was cut off at the end leaves a chain that holds: compare its last digest with one that was kept elsewhere.
    """
    for entry in entries:
        if entry.get("number") != number:
            return Break(number, f"the entry is missing; {entry.get('number')} stands in its place")
        if entry.get("previous") != previous:
            return Break(number, "it does not name the digest of the entry before")
        if digest({key: value for key, value in entry.items() if key != "digest"}) != entry.get("digest"):
            return Break(number, "it was changed: its digest is another")
        previous, number = str(entry["digest"]), number + 1
    return None
