"""Passwords as argon2id hashes, with the library's present parameters (RFC 9106, low memory)."""

from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST = 12
"""Characters; no other rule makes passwords better (NIST SP 800-63B)."""
_hasher = PasswordHasher()


def hashed(password: str) -> str:
    return _hasher.hash(password)


def fits(password: str, stored: str | None) -> bool:
    """Whether it is the password. Without a stored one the answer is no, and takes as long."""
    try:
        return _hasher.verify(stored or _nobodys(), password) and stored is not None
    except (VerificationError, InvalidHashError):
        return False


def is_weak(stored: str) -> bool:
    """Made with parameters that are no longer the present ones."""
    return _hasher.check_needs_rehash(stored)


@cache
def _nobodys() -> str:
    return _hasher.hash("")
