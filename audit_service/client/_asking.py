"""How calls ask: bodies out, records in, pages read on, and what may be sent twice without being done twice."""

import hashlib
import uuid
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import anyio
import httpx
from pydantic import BaseModel

from audit_service.client._sending import Sender
from audit_service.errors import InvalidInput, Unavailable

A = TypeVar("A", bound=BaseModel)

LARGEST_PAGE = 200
PIECE = 1 << 20
"""Bytes of a file that are read at a time."""


class FileBody(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A file as a body, read piece by piece and from its beginning each time that it is sent."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.size = file.stat().st_size

    def __iter__(self) -> Iterator[bytes]:
        with self._file.open("rb") as opened:
            while piece := opened.read(PIECE):
                yield piece

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async with await anyio.open_file(self._file, "rb") as opened:
            while piece := await opened.read(PIECE):
                yield piece


class Asking:
    """What all calls are made of."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def _create(self, path: str, body: BaseModel, kind: type[A]) -> A:
        json_body = {"Content-Type": "application/json"}
        answer = await self._sender.ask("POST", path, content=body.model_dump_json(), headers=json_body | new_key())
        return kind.model_validate_json(answer.content)

    async def _get(self, path: str, kind: type[A]) -> A:
        return kind.model_validate_json((await self._sender.ask("GET", path)).content)

    async def _list(self, path: str, kind: type[A], query: dict[str, str] | None = None) -> list[A]:
        """A list that comes whole."""
        return _read((await self._sender.ask("GET", path, params=query)).json(), kind)

    async def _send_file(
        self, path: str, file: Path, *, params: dict[str, str], headers: dict[str, str]
    ) -> httpx.Response:
        try:
            body = FileBody(file)
            request = self._sender.line.http.build_request("POST", path, params=params, headers=headers)
            request.headers["Content-Length"] = str(body.size)
            request.stream = body
            return await self._sender.send(request)
        except OSError as error:
            raise InvalidInput(f"{file} cannot be read: {error.strerror}.", remedy="Check the path.") from error

    async def _do(self, path: str, kind: type[A]) -> A:
        """Something to be done to a record, by its name in the path alone."""
        return kind.model_validate_json((await self._sender.ask("POST", path)).content)

    async def _change(self, path: str, wanted: BaseModel, kind: type[A]) -> A:
        """The record as it is now, with what ``wanted`` was given.

        Raises Outdated if somebody else changes it at the same moment.
        """
        present = await self._sender.ask("GET", path)
        headers = {"Content-Type": "application/json", "If-Match": present.headers["ETag"]}
        body = wanted.model_dump_json(exclude_unset=True)
        changed = await self._sender.ask("PATCH", path, content=body, headers=headers)
        return kind.model_validate_json(changed.content)

    async def _end(self, path: str, kind: type[A]) -> A:
        return kind.model_validate_json((await self._sender.ask("DELETE", path)).content)

    @property
    def address(self) -> str:
        """Of the service, without a slash at its end."""
        return str(self._sender.line.http.base_url).rstrip("/")

    async def _download(self, path: str, *, checked: bool = False) -> AsyncGenerator[bytes, None]:
        """A file, piece by piece.

        Raises Unavailable in the end if it was cut off or, ``checked``, is not the one whose SHA-256 its ETag is.
        """
        line, found = self._sender.line, hashlib.sha256()
        answer = await self._sender.send(line.http.build_request("GET", path), stream=True)
        try:
            async for piece in line.pieces(answer):
                found.update(piece)
                yield piece
        except httpx.TransportError as error:
            raise _damaged(str(error)) from error
        finally:
            await line.end(answer)
        if checked and answer.headers["ETag"].strip('"') != found.hexdigest():
            raise _damaged("its SHA-256 is another one than the service names")

    async def _all(self, path: str, kind: type[A], **query: str | None) -> AsyncGenerator[A, None]:
        wanted = {name: value for name, value in query.items() if value is not None} | {"limit": str(LARGEST_PAGE)}
        while True:
            page = (await self._sender.ask("GET", path, params=wanted)).json()
            for item in _read(page["items"], kind):
                yield item
            if page["next"] is None:
                return
            wanted["cursor"] = page["next"]


def _read(items: list[Any], kind: type[A]) -> list[A]:
    return [kind.model_validate(item, strict=False) for item in items]


def _damaged(reason: str) -> Unavailable:
    return Unavailable(f"The download was damaged: {reason}.", remedy="Fetch it again.")


def new_key() -> dict[str, str]:
    """So that a creating request which is sent again is done once."""
    return {"Idempotency-Key": str(uuid.uuid4())}
