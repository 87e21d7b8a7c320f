"""ETags: a change says of which state it is a change, and one that comes late changes nothing."""

from typing import Annotated, TypeVar

from fastapi import Header, Response

from audit_service.border.schemas import Answer
from audit_service.domain.manifest import digest
from audit_service.errors import Outdated, Unconditional

A = TypeVar("A", bound=Answer)

IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", max_length=200, description="The `ETag` of the state that is changed; required."),
]


def tagged(response: Response, answer: A) -> A:
    """The answer, with its ETag in the response's headers."""
    response.headers["ETag"] = etag(answer)
    return answer


def etag(answer: Answer) -> str:
    """A strong tag: equal for equal representations."""
    return f'"{digest(answer)[:32]}"'


def check(present: Answer, if_match: str | None) -> None:
    """Let a change through that is made to the present state.

    Raises:
        Unconditional: it does not say to which.
        Outdated: it is made to another.
    """
    if if_match is None:
        raise Unconditional(
            "The request has no If-Match.", remedy="Read the record, and send its ETag as `If-Match` with the change."
        )
    if if_match.strip() not in {etag(present), "*"}:
        raise Outdated("The record was changed meanwhile.", remedy="Read it again, and make the change to that state.")
