"""Kinds of calls. FastAPI reads a body before it asks any dependency, so what must come first stands around it."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from audit_service.border.limits import CALL, FILES, OPEN_CALL, bounded
from audit_service.identity.authentication import authorise, token_of

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Open(APIRoute):
    """A call that needs no token. Its body is small."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            return await handle(bounded(request, OPEN_CALL))

        return answer


class Guarded(APIRoute):
    """A call of somebody who may make it. Nothing of its body is read before that is known."""

    def get_route_handler(self) -> Handler:
        handle, limit = super().get_route_handler(), FILES.get(self.name, CALL)

        async def answer(request: Request) -> Response:
            await run_in_threadpool(authorise, request, self.name, await token_of(request))
            return await handle(bounded(request, limit))

        return answer
