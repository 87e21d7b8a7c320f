"""A digest of the PDF inside the PDF: one changed byte is found without anything else at hand.

The seal shows damage and careless changes, not origin: whoever rewrites a file can seal it again. A signature shows
origin.
"""

import hashlib
import re
from typing import NamedTuple

BLANK = b"0" * 64
MARK = b"<!-- SHA-256 of this file with these digits as zeros: "
_SEAL = re.compile(re.escape(MARK) + rb"([0-9a-f]{64})")
_END = b"%%EOF\n"


class Unsealed(NamedTuple):
    holds: bool
    detail: str


def comment() -> bytes:
    """What the metadata stream carries until the file is sealed."""
    return MARK + BLANK + b" -->"


def sealed(pdf: bytes) -> bytes:
    """The file with its digest in place of the zeros."""
    return pdf.replace(MARK + BLANK, MARK + hashlib.sha256(pdf).hexdigest().encode(), 1)


def unsealed(pdf: bytes) -> Unsealed:
    """Whether the file, as it was before any signature was added, has the digest that it carries."""
    original = pdf[: pdf.find(_END) + len(_END)] if _END in pdf else pdf
    if original != pdf and b"/ByteRange" not in pdf:
        return Unsealed(holds=False, detail="bytes were added after its end, and no signature covers them")
    found = _SEAL.search(original)
    if found is None:
        return Unsealed(holds=False, detail="it carries no seal")
    blank = original[: found.start(1)] + BLANK + original[found.end(1) :]
    same = hashlib.sha256(blank).hexdigest().encode() == found.group(1)
    return Unsealed(same, "" if same else "a byte was changed")
