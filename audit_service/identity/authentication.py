"""Who sends a request, and whether that may: the one dependency of every call."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from audit_service.border.handle import Address, AppLimiter, AppSettings, Handle
from audit_service.identity import tokens
from audit_service.identity.permissions import NEEDS
from audit_service.identity.principals import Principal

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="A token from `POST /v1/sessions` or `POST /v1/tokens`, or the one that the first start wrote.",
)


def _caller(  # noqa: PLR0917 - FastAPI names them
    request: Request,
    handle: Handle,
    settings: AppSettings,
    limiter: AppLimiter,
    address: Address,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    """The caller whose token it is; 401 without one."""
    principal = tokens.authenticate(handle, given.credentials if given else None, address=address)
    request.state.caller = principal  # for the request's line in the log
    limiter.hit(settings.api_limit, "api", principal.token_id)
    return principal


Caller = Annotated[Principal, Depends(_caller)]


def authorise(request: Request, caller: Caller) -> None:
    """Let the call through if the caller has the permission that the table names for it."""
    caller.require(NEEDS[request.scope["route"].name])
