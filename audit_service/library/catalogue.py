"""The library's entries, read from the files beside this one."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from audit_service.domain.auditfile import AuditFile, parse_audit_file
from audit_service.domain.datasheets import Datasheet
from audit_service.errors import NotFound

FOLDER = Path(__file__).parent / "entries"


@dataclass(frozen=True)
class Entry:
    """A behavior with all that its audit needs, and the text it was read from."""

    file: str = field(repr=False)
    """As its author wrote it, comments included."""
    audit: AuditFile
    datasheet: Datasheet

    @property
    def name(self) -> str:
        return self.audit.behavior.name


@cache
def entries() -> tuple[Entry, ...]:
    """All entries by name."""
    return tuple(_read(file) for file in sorted(FOLDER.glob("*.yaml"), key=lambda file: file.stem))


def entry(name: str) -> Entry:
    """The entry of that name; NotFound says what there is."""
    for one in entries():
        if one.name == name:
            return one
    raise NotFound(
        f"The library has no behavior {name!r}.",
        remedy=f"Choose one of these: {', '.join(one.name for one in entries())}.",
    )


def _read(file: Path) -> Entry:
    text = file.read_text(encoding="utf-8")
    audit = parse_audit_file(text, name=file.name)
    if audit.behavior.datasheet is None:
        raise ValueError(f"{file.name} has no datasheet")
    return Entry(text, audit, audit.behavior.datasheet)
