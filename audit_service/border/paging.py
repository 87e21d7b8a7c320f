"""Cursor paging: a page names the cursor of the next one, and rows that arrive meanwhile shift nothing.

A list is in an order of its own, by time of creation, or by one of its columns and then by time. The cursor holds the
place of the last row that was shown, and of which list in which order with which filters: with others it is refused.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, NamedTuple, Self, TypeVar
from uuid import UUID

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, TypeAdapter
from sqlalchemy import ColumnElement, Enum, Select, Text, Uuid, literal, tuple_, type_coerce
from sqlalchemy.orm import InstrumentedAttribute

from audit_service.border.schemas import Answer
from audit_service.db.handles import ReadSession
from audit_service.errors import InvalidInput

T = TypeVar("T")
R = TypeVar("R")
A = TypeVar("A", bound=Answer)

LARGEST = 200
NEWEST, OLDEST = "newest", "oldest"


class Page(BaseModel, Generic[T]):
    """A part of a list."""

    items: list[T]
    next: str | None
    """Send it as `cursor`, with the same order and filters, to read on; null at the end."""


class _Place(BaseModel):
    """What a cursor says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: str
    """Digest of the list, its order and its filters."""
    after: tuple[str | int, ...]
    """What the last row is ordered by."""

    @classmethod
    def read(cls, cursor: str) -> Self:
        try:
            return cls.model_validate_json(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
        except ValueError as error:  # no base64, or nothing that a cursor says
            raise _foreign() from error

    def written(self) -> str:
        return base64.urlsafe_b64encode(self.model_dump_json().encode()).decode().rstrip("=")


@dataclass(frozen=True)
class Paging:
    """Which page of which list is asked for."""

    of: str
    limit: int
    place: _Place | None
    by: ColumnElement[Any] | None
    """What comes before the rows' own key in the order."""
    descending: bool


class Rows(NamedTuple, Generic[R]):
    rows: Sequence[R]
    next: str | None

    def page(self, kind: type[A]) -> Page[A]:
        return Page(items=[kind.of(row) for row in self.rows], next=self.next)


_Limit = Annotated[int, Query(ge=1, le=LARGEST, description="How many items a page holds at most.")]
_Cursor = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=4000,
        description="The `next` of the page before, with the same order and filters; left out for the first page.",
    ),
]


def sortable(**columns: InstrumentedAttribute[Any]) -> Any:  # noqa: ANN401 - as fastapi.Depends has it
    """The paging of a list that can be ordered by these columns, none of which holds null, besides by age."""
    words = [NEWEST, OLDEST, *(sign + name for name in columns for sign in ("", "-"))]
    shown = "Which come first." + (" A name orders by that, and with - before it backwards." if columns else "")
    order_of = Query(description=shown, pattern=f"^({'|'.join(words)})$", json_schema_extra={"enum": [*words]})

    def paging(
        request: Request, cursor: _Cursor = None, limit: _Limit = 50, order: Annotated[str, order_of] = NEWEST
    ) -> Paging:
        column = columns.get(order.removeprefix("-"))
        by = None if column is None else column.expression
        by = type_coerce(by, Text) if by is not None and isinstance(by.type, Enum) else by
        return _asked(request, cursor, limit, order, by=by, descending=order == NEWEST or order.startswith("-"))

    return Depends(paging)


def _numbered(request: Request, cursor: _Cursor = None, limit: _Limit = 50) -> Paging:
    return _asked(request, cursor, limit, OLDEST, by=None, descending=False)


ById = Annotated[Paging, sortable()]
"""Of rows with time-ordered ids."""
ByNumber = Annotated[Paging, Depends(_numbered)]
"""Of rows that have their order."""


def _asked(
    request: Request,
    cursor: str | None,
    limit: int,
    order: str,
    *,
    by: ColumnElement[Any] | None,
    descending: bool,
) -> Paging:
    given = request.query_params.multi_items()
    filters = sorted(one for one in given if one[0] not in {"cursor", "limit", "order"})
    said = json.dumps([request.url.path, order, filters]).encode()
    of = hashlib.sha256(said).hexdigest()[:16]
    place = None if cursor is None else _Place.read(cursor)
    if place is not None and place.of != of:
        raise _foreign()
    return Paging(of, limit, place, by, descending)


def paged(session: ReadSession, query: Select[R], paging: Paging, *, key: InstrumentedAttribute[Any]) -> Rows[R]:
    """A page of rows, which ``key`` tells apart. One row more than asked for tells whether there is a next page."""
    order: list[ColumnElement[Any]] = [key.expression] if paging.by is None else [paging.by, key.expression]
    if paging.place is not None:
        last = tuple_(*_values(paging.place, order))
        query = query.where(tuple_(*order) < last if paging.descending else tuple_(*order) > last)
    query = query.order_by(*(one.desc() if paging.descending else one for one in order))
    shown = [one.label(f"order_{place}") for place, one in enumerate(order)]
    found = session.execute(query.add_columns(*shown).limit(paging.limit + 1)).all()
    page = found[: paging.limit]
    return Rows([row[0] for row in page], _next(paging, page[-1][1:]) if len(found) > paging.limit else None)


def _next(paging: Paging, last: Sequence[Any]) -> str:
    return _Place(of=paging.of, after=TypeAdapter(tuple[Any, ...]).dump_python(tuple(last), mode="json")).written()


def _values(place: _Place, order: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    """The place's values as the columns have them."""
    try:
        return [literal(_value(column, one), column.type) for column, one in zip(order, place.after, strict=True)]
    except ValueError as error:
        raise _foreign() from error


def _value(column: ColumnElement[Any], value: str | int) -> Any:  # noqa: ANN401 - what the column holds
    """Raises ValueError for what the column cannot hold."""
    if isinstance(column.type, Uuid):
        return str(UUID(str(value)))
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("the database has no such number")
    if isinstance(value, str) and "\x00" in value:
        raise ValueError("the database has no such text")
    return TypeAdapter(column.type.python_type).validate_python(value)


def _foreign() -> InvalidInput:
    return InvalidInput(
        "The cursor is none of this list in this order with these filters.",
        remedy="Send it as it was given, with the order and filters of its page; or begin without one.",
    )
