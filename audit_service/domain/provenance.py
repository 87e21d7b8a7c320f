"""Where a pair set came from that was made of somebody else's data."""

from pydantic import Field

from audit_service.domain.manifest import Frozen


class Provenance(Frozen):
    """How a published data set became pairs. It is part of the pair set and of its hash."""

    data_set: str
    """What it is, by whom, where published."""
    file: str
    """Name of the file that the user had."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of that file."""
    rows: int = Field(ge=0)
    """Rows that were read."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """Why → rows or pairs that were read and are not in the set."""
    conversion: str
    """How a row became a prompt, and what was chosen."""
    limits: tuple[str, ...] = ()
    """What is known against the data or this use of them."""
    converter: str
    """Program and version."""
