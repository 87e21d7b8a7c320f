"""How an import stands."""

from enum import StrEnum


class ImportState(StrEnum):
    QUEUED = "queued"
    DONE = "done"
    REFUSED = "refused"
    """The reason stands beside it; asked for again, it is tried again."""
