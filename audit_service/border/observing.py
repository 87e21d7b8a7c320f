"""Every request counted, timed, and told in one line of the log, with who asked and about what."""

import time
import uuid

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audit_service.logs import REQUESTS

log = structlog.stdlib.get_logger(REQUESTS)

HEADERS = (
    (b"cache-control", b"no-store"),  # evidence of a link that was revoked lies in nobody's cache
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),  # paths of links are secrets
)
"""Of every answer that says nothing else."""


class Observed:
    """Gives each request an id, which the answer carries as `X-Request-ID`, and each answer its harmless headers."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._requests = Counter(
            "audit_requests", "Requests answered.", ["method", "call", "status"], registry=registry
        )
        self._seconds = Histogram("audit_request_seconds", "Time until answered.", ["call"], registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began, request_id = 500, time.perf_counter(), uuid.uuid4().hex

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = [*message.get("headers", ())]
                own = [one for one in HEADERS if one[0] not in {name for name, _ in given}]
                message["headers"] = [*given, *own, (b"x-request-id", request_id.encode())]
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request=request_id)
        try:
            await self._app(scope, receive, noted)
        finally:
            self._tell(scope, status, time.perf_counter() - began)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        """The call's name stands for the path, which may hold a link's secret."""
        call = getattr(scope.get("route"), "name", "none")
        self._requests.labels(scope["method"], call, str(status)).inc()
        self._seconds.labels(call).observe(seconds)
        caller = scope.get("state", {}).get("caller")
        log.info(
            "request",
            method=scope["method"],
            call=call,
            status=status,
            seconds=round(seconds, 4),
            run=scope.get("path_params", {}).get("run_id"),
            organisation=caller.organisation_id if caller else None,
            caller=caller.name if caller else None,
        )
