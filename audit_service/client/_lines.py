"""What differs between the two clients: how a request is sent and how time passes.

The blocking line has asynchronous methods that wait for nothing; ``_modes.py`` runs them without an event loop.
"""

import time
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

import anyio
import httpx

SECONDS = 300.0
"""Registering a large model reads all of it before it answers."""


class Line(Protocol):
    """A connection to the service."""

    @property
    def http(self) -> httpx.Client | httpx.AsyncClient: ...

    async def send(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        """The answer, its body read unless it is a stream without error."""
        ...

    def lines(self, answer: httpx.Response) -> AsyncIterator[str]: ...

    def pieces(self, answer: httpx.Response) -> AsyncIterator[bytes]: ...

    async def end(self, answer: httpx.Response) -> None: ...

    async def sleep(self, seconds: float) -> None: ...


class BlockingLine:
    def __init__(self, url: str, *, headers: Mapping[str, str]) -> None:
        self.http = httpx.Client(base_url=url, timeout=SECONDS, headers=headers)

    async def send(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        answer = self.http.send(request, stream=stream)
        if answer.is_error:
            answer.read()
        return answer

    async def lines(self, answer: httpx.Response) -> AsyncIterator[str]:
        for line in answer.iter_lines():
            yield line

    async def pieces(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        for piece in answer.iter_bytes():
            yield piece

    async def end(self, answer: httpx.Response) -> None:
        answer.close()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class WaitingLine:
    def __init__(self, url: str, *, headers: Mapping[str, str]) -> None:
        self.http = httpx.AsyncClient(base_url=url, timeout=SECONDS, headers=headers)

    async def send(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        answer = await self.http.send(request, stream=stream)
        if answer.is_error:
            await answer.aread()
        return answer

    def lines(self, answer: httpx.Response) -> AsyncIterator[str]:
        return answer.aiter_lines()

    def pieces(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        return answer.aiter_bytes()

    async def end(self, answer: httpx.Response) -> None:
        await answer.aclose()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)
