"""What commands share: the service that answers them, and requests made of what was typed."""

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from audit_service.domain.pairfiles import plain_problems
from audit_service.errors import InvalidInput
from audit_service.settings import get_settings

if TYPE_CHECKING:
    from audit_service.client import Client

M = TypeVar("M", bound=BaseModel)


def service() -> "Client":
    """A client of the service that is named or running; Conflict if there is none."""
    from audit_service.processes import connected  # noqa: PLC0415 - commands that need no service start faster

    return connected(get_settings())


def request(kind: type[M], /, **values: object) -> M:
    """The request that was typed. InvalidInput names each part of it that cannot be."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise InvalidInput(
            "The command asks for something that cannot be.",
            remedy="Correct what is named; --help explains it.",
            details=plain_problems(error),
        ) from error
