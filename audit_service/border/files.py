"""Files that are sent as a body: written to a temporary file as they arrive, and hashed on the way."""

import hashlib
from collections.abc import AsyncIterator
from tempfile import TemporaryFile
from typing import IO, Annotated, NamedTuple

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool


class _Sent(NamedTuple):
    content: IO[bytes]
    """At its beginning; it is gone when the request ends."""
    digest: str
    """SHA-256, in hex."""


async def _sent(request: Request) -> AsyncIterator[_Sent]:
    hashed = hashlib.sha256()
    with TemporaryFile() as file:
        async for some in request.stream():
            hashed.update(some)
            await run_in_threadpool(file.write, some)
        file.seek(0)
        yield _Sent(file, hashed.hexdigest())


SentFile = Annotated[_Sent, Depends(_sent)]
