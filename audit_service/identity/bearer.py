"""Secrets that act for somebody: made here, shown once, kept as a digest."""

import base64
import binascii
import hashlib
import hmac
import secrets
import uuid
from dataclasses import dataclass, field
from typing import NamedTuple, Self

SECRET_BYTES = 32


class Issued(NamedTuple):
    text: str
    """What is handed out, once."""
    digest: bytes
    """What is kept."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a secret's text says: where to look, and what must fit there.

    The text names its organisation, so that even the look-up acts for that organisation alone; a false name finds
    nothing. ``kind`` stands before it for people and for programs that search files for secrets.
    """

    organisation_id: str
    id: str
    secret: bytes = field(repr=False)

    @classmethod
    def issue(cls, kind: str, *, organisation_id: str, id: str) -> Issued:  # noqa: A002 - the row's id
        secret = secrets.token_bytes(SECRET_BYTES)
        raw = uuid.UUID(organisation_id).bytes + uuid.UUID(id).bytes + secret
        return Issued(f"{kind}_{base64.urlsafe_b64encode(raw).decode().rstrip('=')}", hashlib.sha256(secret).digest())

    @classmethod
    def read(cls, kind: str, text: str) -> Self | None:
        """None for a text that is none of this kind."""
        prefix, _, encoded = text.partition("_")
        try:
            raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        if prefix != kind or len(raw) != 32 + SECRET_BYTES:
            return None
        return cls(str(uuid.UUID(bytes=raw[:16])), str(uuid.UUID(bytes=raw[16:32])), raw[32:])

    def fits(self, digest: bytes) -> bool:
        """Whether the secret is the one of the digest; how long the answer takes tells nothing."""
        return hmac.compare_digest(hashlib.sha256(self.secret).digest(), digest)
