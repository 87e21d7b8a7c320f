"""The largest body, refused before any of it is read."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from audit_service import problems

LARGEST_BODY = 256 * 1024 * 1024
"""Bytes; a file of 100,000 pairs is about half of that."""


class BodyLimit:
    """Answers 413 as a problem document; FastAPI's own limit answers in plain text when the length is announced."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        announced = Headers(scope=scope).get("content-length", "") if scope["type"] == "http" else ""
        if announced.isdecimal() and int(announced) > LARGEST_BODY:
            await problems.too_large(LARGEST_BODY)(scope, receive, send)
        else:
            await self._app(scope, receive, send)
