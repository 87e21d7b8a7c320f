"""Requests that are sent again where that is safe, and problems that become the errors they stand for."""

import json
import random
from collections.abc import Iterator
from typing import Any

import httpx

from audit_service.client._lines import Line
from audit_service.errors import AuditError, Unavailable

PATIENCE_S = 10.0
FIRST_PAUSE_S = 0.25
BUSY = frozenset({429, 503})
"""The service did nothing and asks to come again."""


class Sender:
    """Sends requests on a line; one that is not answered, or refused for now, is repeated with growing pauses.

    What may have been done already is repeated only if doing it twice is doing it once: a GET, or a request with an
    idempotency key. A connection that was never made, and an answer of 429 or 503, say that nothing was done.
    """

    def __init__(self, line: Line, *, patience_s: float) -> None:
        self.line = line
        self._patience_s = patience_s

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx has them typed
        return await self.send(self.line.http.build_request(method, path, **options))

    async def send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        """The answer.

        Raises:
            Unavailable: nothing answers, or nothing that is this service.
            AuditError: the service answers with a problem.
        """
        patience = _Patience(self._patience_s)
        while True:
            try:
                answer = await self.line.send(request, stream=stream)
            except httpx.TransportError as error:
                pause = patience.pause() if _may_repeat(request, error) else None
                if pause is None:
                    raise Unavailable(
                        f"The service at {self.line.http.base_url} does not answer: {error}",
                        remedy="Start it with `audit-service serve`, or correct the address.",
                    ) from error
            else:
                if not answer.is_error:
                    return answer
                pause = patience.pause(_asked_pause(answer)) if answer.status_code in BUSY else None
                if pause is None:
                    raise error_of(answer)
            await self.line.sleep(pause)


class _Patience:
    """Pauses that double, with jitter so that many clients do not come again together, within a sum of seconds."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._next = FIRST_PAUSE_S

    def pause(self, at_least: float = 0.0) -> float | None:
        """Seconds to wait before the next try; None when that is no longer worth the wait."""
        seconds = max(self._next * random.uniform(0.5, 1.0), at_least)  # noqa: S311 - no secret
        self._next *= 2
        self._left -= seconds
        return seconds if self._left >= 0 else None


def _may_repeat(request: httpx.Request, error: httpx.TransportError) -> bool:
    never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    return never_sent or request.method == "GET" or "Idempotency-Key" in request.headers


def _asked_pause(answer: httpx.Response) -> float:
    """Seconds that the answer asks to wait; a date, which this service never sends, counts as none."""
    said = answer.headers.get("Retry-After", "")
    return float(said) if said.isdecimal() else 0.0


def error_of(answer: httpx.Response) -> AuditError:
    """The error that the answer's problem document stands for."""
    try:
        problem = answer.json()
        message, remedy = problem["detail"], problem["remedy"]
        details = [_said(found) for found in problem["errors"]]
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError):
        return Unavailable(
            f"{answer.url} answers {answer.status_code}, which is not this service.", remedy="Correct the address."
        )
    return _ERRORS.get(problem.get("type"), AuditError)(message, remedy=remedy, details=details)


def _said(found: dict[str, Any]) -> str:
    return f"{found['pointer']}: {found['detail']}" if found.get("pointer") else str(found["detail"])


def _family(kind: type[AuditError]) -> Iterator[type[AuditError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _family(child)


_ERRORS = {kind.urn(): kind for kind in _family(AuditError)}
