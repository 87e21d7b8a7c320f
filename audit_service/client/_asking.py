"""How calls ask: bodies out, records in, pages read on, and what may be sent twice without being done twice."""

import uuid
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

from pydantic import BaseModel

from audit_service.client._sending import Sender

A = TypeVar("A", bound=BaseModel)

LARGEST_PAGE = 200


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

    async def _end(self, path: str, kind: type[A]) -> A:
        return kind.model_validate_json((await self._sender.ask("DELETE", path)).content)

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


def new_key() -> dict[str, str]:
    """So that a creating request which is sent again is done once."""
    return {"Idempotency-Key": str(uuid.uuid4())}
