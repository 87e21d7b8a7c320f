"""The application's own parts, for endpoints and what they depend on."""

from typing import Annotated

from fastapi import Depends, Request

from audit_service.db.handles import Database
from audit_service.identity.limits import Limiter
from audit_service.settings import Settings


def _database(request: Request) -> Database:
    handle: Database = request.app.state.database
    return handle


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _limiter(request: Request) -> Limiter:
    limiter: Limiter = request.app.state.limiter
    return limiter


def address_of(request: Request) -> str | None:
    """Where the request came from; behind a proxy, what the proxy says, if uvicorn was told to trust it."""
    return request.client.host if request.client else None


Handle = Annotated[Database, Depends(_database)]
"""The database without anybody to act for; ``border.transactions`` has those of the caller."""
AppSettings = Annotated[Settings, Depends(_settings)]
AppLimiter = Annotated[Limiter, Depends(_limiter)]
Address = Annotated[str | None, Depends(address_of)]
