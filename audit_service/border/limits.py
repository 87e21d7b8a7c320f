"""How large a body may be, by who may send it; what is larger is not read to its end."""

from collections.abc import Mapping
from types import MappingProxyType

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

KIB = 1024
MIB = 1024 * KIB

OPEN_CALL = 256 * KIB
"""Bytes that anybody may send: a sign-in, or an event of a model registry."""
CALL = 4 * MIB
"""Bytes that a caller may send whose token was checked."""
FILES: Mapping[str, int] = MappingProxyType({"upload_pair_set": 256 * MIB})
"""Calls that take a file. One of 100,000 pairs is about half of that."""


def bounded(request: Request, limit: int) -> Request:
    """The request, whose body ends in an error behind ``limit`` bytes, whatever was announced.

    Raises:
        HTTPException: 413, the announced length is beyond the limit.
    """
    announced = Headers(scope=request.scope).get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await request.receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise _too_large(limit)
        return message

    return Request(request.scope, counted)


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"The body has more than {limit} bytes.")
