"""Errors as RFC 9457 problem documents: what went wrong, and what to do about it."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import models_json_schema
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from audit_service.db.handles import translate
from audit_service.errors import AuditError, InvalidInput, NotFound, TooManyRequests

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class ProblemDetail(BaseModel):
    """One of several things that are wrong."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    detail: str
    pointer: str | None = None
    """JSON pointer to the field of the request, such as `/body/judging/alpha`."""


class Problem(BaseModel):
    """RFC 9457, with the remedy."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str
    """Stable name of the kind of problem, such as `urn:audit-service:invalid-pairs`."""
    title: str
    """The kind of problem in words."""
    status: int
    detail: str
    """What went wrong this time."""
    remedy: str
    """What to do about it."""
    errors: list[ProblemDetail] = []
    """Each of the things that are wrong, where there are several."""


SCHEMAS = models_json_schema([(Problem, "serialization")], ref_template="#/components/schemas/{model}")[1]["$defs"]
"""For the OpenAPI document's components."""


def install(app: FastAPI) -> None:
    """Answer every error of the application with a problem document."""
    app.add_exception_handler(AuditError, _audit_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(DBAPIError, _database_error)
    app.add_exception_handler(Exception, _unexpected)


def responses(*statuses: int, existing: type[BaseModel] | None = None) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the problems a route can answer with; ``existing`` is what 200 holds beside 201."""
    described: dict[int | str, dict[str, Any]] = {
        status: {"description": _DESCRIPTIONS[status], "content": {MEDIA_TYPE: _documented(status)}}
        for status in statuses
    }
    if existing is not None:
        described[200] = {"model": existing, "description": "It was there already."}
    return described


def _documented(status: int) -> dict[str, Any]:
    kind = next((one for one in AuditError.__subclasses__() if one.status == status), None)
    example = Problem(
        type="about:blank" if kind is None else kind.urn(),
        title=HTTPStatus(status).phrase if kind is None else kind.title,
        status=status,
        detail=_DESCRIPTIONS[status],
        remedy=_REMEDIES[status],
    )
    return {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example.model_dump()}


CHANGES = (412, 428)
"""What a change can answer that must name the state it changes."""
WITH_BODY = (400, 413)
"""What any call with a body can answer."""

_DESCRIPTIONS = {
    400: "The body cannot be read.",
    401: "No token, or one that is unknown, expired or revoked.",
    403: "The token's role or scopes do not allow it.",
    404: "There is no such thing.",
    405: "The path does not know this method.",
    409: "The present state does not allow it.",
    410: "It was there and is no more.",
    412: "It was changed meanwhile; the ETag is another.",
    413: "The body is too large.",
    422: "The input cannot be used; `errors` names each field or row.",
    428: "`If-Match` is missing.",
    429: "Too many requests; `Retry-After` says when to come back.",
    500: "A mistake of the service.",
    503: "A part of the service is down.",
}


_REMEDIES = {
    400: "Send JSON with `Content-Type: application/json`.",
    401: "Sign in with POST /v1/sessions, or set AUDIT_TOKEN to a token of the service.",
    403: "Ask an administrator.",
    404: "Look it up in its list.",
    405: "See /docs for the methods of this path.",
    409: "Read what is there, and ask for what its state allows.",
    410: "Ask whoever sent you the link for another one.",
    412: "Read it again, and make the change to that state.",
    413: "Send less at once.",
    422: "Correct the fields that `errors` names; /docs shows what each takes.",
    428: "Read the record, and send its ETag as `If-Match` with the change.",
    429: "Wait 12 seconds, then go on more slowly.",
    500: "Look into the service's log, and report what it says.",
    503: "Start it, or correct its address; then try again.",
}
"""Examples of remedies, for the documentation."""


def problem_of(error: AuditError) -> Problem:
    return Problem(
        type=type(error).urn(),
        title=error.title,
        status=error.status,
        detail=error.message,
        remedy=error.remedy,
        errors=[ProblemDetail(detail=detail) for detail in error.details],
    )


def _answer(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(jsonable_encoder(problem), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "5"}}


def _audit_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AuditError)  # noqa: S101 - Starlette types all handlers alike
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, TooManyRequests) else {}
    return _answer(problem_of(error), _HEADERS.get(error.status, {}) | headers)


def _validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    found = [
        ProblemDetail(detail=item["msg"], pointer="".join(f"/{part}" for part in item["loc"]))
        for item in error.errors()
    ]
    return _answer(
        Problem(
            type=InvalidInput.urn(),
            title=InvalidInput.title,
            status=422,
            detail=f"{len(found)} field{'s' if len(found) > 1 else ''} of the request cannot be used.",
            remedy="Correct the fields that `errors` names; /docs shows what each takes.",
            errors=found,
        )
    )


_HTTP_REMEDIES = {
    404: "See /docs for the paths there are.",
    405: "See /docs for the methods of this path.",
    413: "Send less at once.",
}


def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    return _answer(
        Problem(
            type=NotFound.urn() if error.status_code == 404 else "about:blank",
            title=NotFound.title if error.status_code == 404 else HTTPStatus(error.status_code).phrase,
            status=error.status_code,
            detail=str(error.detail),
            remedy=_HTTP_REMEDIES.get(error.status_code, "Correct the request; see /docs."),
        ),
        dict(error.headers or {}),
    )


def _database_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DBAPIError)  # noqa: S101
    known = translate(error)
    return _unexpected(request, error) if known is None else _audit_error(request, known)


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(
        Problem(
            type=AuditError.urn(),
            title=AuditError.title,
            status=500,
            detail="The service made a mistake.",
            remedy="Look into the service's log, and report what it says.",
        )
    )
