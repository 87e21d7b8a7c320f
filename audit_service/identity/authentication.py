"""Who sends a request, and whether that may: asked of every call before anything of it is read."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from audit_service.border.handle import address_of
from audit_service.identity import tokens
from audit_service.identity.permissions import NEEDS
from audit_service.identity.principals import Principal

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="A token from `POST /v1/sessions` or `POST /v1/tokens`, or the one that the first start wrote.",
)


async def token_of(request: Request) -> str | None:
    """The token that the request carries."""
    given = await _bearer(request)
    return given.credentials if given else None


def authorise(request: Request, call: str, token: str | None) -> None:
    """Find out whose token it is, and let the call through if the table of permissions does.

    Raises:
        Unauthenticated: no token, or one that is worth nothing.
        TooManyRequests: more than the token may make.
        Forbidden: the caller's role or scopes do not allow the call.
    """
    _identified(request, token).require(NEEDS[call])


def caller(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Principal:
    """Who sends the request, found out already where `border.routes` stands around the call."""
    known: Principal | None = getattr(request.state, "caller", None)
    return known or _identified(request, given.credentials if given else None)


def _identified(request: Request, token: str | None) -> Principal:
    state = request.app.state
    principal = tokens.authenticate(state.database, token, address=address_of(request))
    request.state.caller = principal  # for the endpoint, and for the request's line in the log
    state.limiter.hit(state.settings.api_limit, "api", principal.token_id)
    return principal


Caller = Annotated[Principal, Depends(caller)]


def allow(request: Request, caller: Caller) -> None:
    """Let the call through if the table does, even where no `border.routes` stands around it."""
    caller.require(NEEDS[request.scope["route"].name])
