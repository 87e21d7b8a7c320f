"""``Idempotency-Key``: a creating request that is sent twice is done once and answered twice."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request, Response
from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert

from audit_service.border.files import SentFile
from audit_service.border.schemas import Answer
from audit_service.db.base import Ensured
from audit_service.db.handles import WriteSession
from audit_service.db.tables import IdempotencyRow
from audit_service.domain.lifecycle import EventKind
from audit_service.errors import Conflict
from audit_service.events import repository as events
from audit_service.identity.authentication import Caller
from audit_service.identity.principals import Principal

A = TypeVar("A", bound=Answer)

KEPT = timedelta(days=7)
"""So long a request that is sent again gets the former answer; then its key is new."""


@dataclass(frozen=True)
class Once:
    """The identity of a request."""

    key: str | None
    route: str
    request_digest: str
    organisation_id: str
    actor: str
    call: str
    """The endpoint's name."""
    response: Response

    def answer(self, session: WriteSession, kind: type[A], make: Callable[[], Ensured[Any]]) -> A:
        """The row that ``make`` makes (201) or finds (200), or the answer given when the same request came before.

        A twin that arrives meanwhile waits at the key's row until the first one's transaction ends.
        """
        if self.key is not None and not self._is_first(session):
            return self._former(session, kind)
        made = make()
        answer = kind.of(made.row)
        if made.is_new:
            data = {"call": self.call, "id": answer.model_dump(include={"id"})["id"]}
            events.append(session, None, EventKind.CREATED, actor=self.actor, data=data)
        self.response.status_code = 201 if made.is_new else 200
        if self.key is not None:
            claim = session.get_one(IdempotencyRow, (self.organisation_id, self.key, self.route))
            claim.status, claim.body = self.response.status_code, answer.model_dump(mode="json")
        return answer

    def _is_first(self, session: WriteSession) -> bool:
        claim = insert(IdempotencyRow).values(
            organisation_id=self.organisation_id,
            key=self.key,
            route=self.route,
            request_digest=self.request_digest,
            status=0,
            body={},
        )
        return session.execute(claim.on_conflict_do_nothing().returning(IdempotencyRow.key)).first() is not None

    def _former(self, session: WriteSession, kind: type[A]) -> A:
        former = session.get_one(IdempotencyRow, (self.organisation_id, self.key, self.route))
        if former.request_digest != self.request_digest:
            raise Conflict(
                f"The idempotency key {self.key!r} was used for another request.",
                remedy="Take a new key for a new request, or send the former request unchanged.",
            )
        self.response.status_code = former.status
        return kind.model_validate(former.body, strict=False)


def forget(session: WriteSession, now: datetime) -> None:
    """Delete the answers that are older than they are kept."""
    session.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at < now - KEPT))


_Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Of your choice, new for each new request; the same key with the same request is done once. "
        f"It is forgotten after {KEPT.days} days.",
    ),
]


def _once(request: Request, response: Response, caller: Principal, *, key: str | None, body_digest: str) -> Once:
    """The identity of a request whose body has the digest."""
    # Whoever sends another one's key asks for something else: an answer says who did it.
    asked = f"{caller.name}\n{request.url.query}\n{body_digest}".encode()
    return Once(
        key=key,
        route=f"{request.method} {request.url.path}",
        request_digest=hashlib.sha256(asked).hexdigest(),
        organisation_id=caller.organisation_id,
        actor=caller.name,
        call=request.scope["route"].name,
        response=response,
    )


async def _of_body(request: Request, response: Response, caller: Caller, key: _Key = None) -> Once:
    digest = hashlib.sha256(await request.body()).hexdigest()
    return _once(request, response, caller, key=key, body_digest=digest)


def _of_file(request: Request, response: Response, caller: Caller, sent: SentFile, key: _Key = None) -> Once:
    return _once(request, response, caller, key=key, body_digest=sent.digest)


Idempotent = Annotated[Once, Depends(_of_body)]
IdempotentFile = Annotated[Once, Depends(_of_file)]
"""For a call that takes a ``SentFile``."""
