"""The two clients."""

from types import TracebackType
from typing import Self

from audit_service.client._calls import Calls
from audit_service.client._lines import BlockingLine, WaitingLine
from audit_service.client._modes import Blocking, Waiting
from audit_service.client._sending import PATIENCE_S, Sender
from audit_service.settings import get_settings

URL = "http://127.0.0.1:8321"


class Client(Calls, Blocking):
    """A connection to a service. A problem that it answers is raised as the error it stands for.

    ``token``: what to show to the service; none means AUDIT_TOKEN.
    ``patience_s``: a service that is out of reach or busy is asked again for so many seconds.
    """

    def __init__(self, url: str = URL, *, token: str | None = None, patience_s: float = PATIENCE_S) -> None:
        self._line = BlockingLine(url, headers=_shown(token))
        super().__init__(Sender(self._line, patience_s=patience_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._line.http.close()


class AsyncClient(Calls, Waiting):
    """``Client`` for programs with an event loop: its calls are awaited, its lists are read with ``async for``."""

    def __init__(self, url: str = URL, *, token: str | None = None, patience_s: float = PATIENCE_S) -> None:
        self._line = WaitingLine(url, headers=_shown(token))
        super().__init__(Sender(self._line, patience_s=patience_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._line.http.aclose()


def _shown(token: str | None) -> dict[str, str]:
    given = get_settings().token
    text = token or (given.get_secret_value() if given else None)
    return {"Authorization": f"Bearer {text}"} if text else {}
