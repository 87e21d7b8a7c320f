"""Cursor paging: a page names the cursor of the next one, and rows that arrive meanwhile shift nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel
from sqlalchemy import BigInteger, Select, literal
from sqlalchemy.orm import InstrumentedAttribute

from audit_service.border.schemas import Answer, Uuid
from audit_service.db.handles import ReadSession

T = TypeVar("T")
R = TypeVar("R")
C = TypeVar("C", str, int)
A = TypeVar("A", bound=Answer)

LARGEST = 200


class Page(BaseModel, Generic[T]):
    """A part of a list."""

    items: list[T]
    next: str | None
    """Send it as `cursor` to read on; null at the end."""


@dataclass(frozen=True)
class Paging(Generic[C]):
    cursor: C | None
    limit: int
    oldest_first: bool = False


class Order(StrEnum):
    NEWEST = "newest"
    OLDEST = "oldest"


class Rows(NamedTuple, Generic[R]):
    rows: Sequence[R]
    next: str | None

    def page(self, kind: type[A]) -> Page[A]:
        return Page(items=[kind.of(row) for row in self.rows], next=self.next)


_Limit = Annotated[int, Query(ge=1, le=LARGEST, description="How many items a page holds at most.")]
_CURSOR = "The `next` of the page before; left out for the first page."


def _by_id(
    cursor: Annotated[Uuid | None, Query(description=_CURSOR)] = None,
    limit: _Limit = 50,
    order: Annotated[Order, Query(description="Which come first.")] = Order.NEWEST,
) -> Paging[str]:
    return Paging(cursor, limit, oldest_first=order is Order.OLDEST)


def _by_number(
    cursor: Annotated[int | None, Query(ge=0, le=2**63 - 1, description=_CURSOR)] = None, limit: _Limit = 50
) -> Paging[int]:
    return Paging(cursor, limit)


ById = Annotated[Paging[str], Depends(_by_id)]
ByNumber = Annotated[Paging[int], Depends(_by_number)]


def newest_first(
    session: ReadSession, query: Select[R], paging: Paging[str], *, key: InstrumentedAttribute[str]
) -> Rows[R]:
    """A page of rows with time-ordered ids; the oldest come first if that was asked for."""
    if paging.cursor is not None:
        query = query.where(key > paging.cursor if paging.oldest_first else key < paging.cursor)
    return _cut(session, query.order_by(key if paging.oldest_first else key.desc()), paging, key)


def in_order(
    session: ReadSession, query: Select[R], paging: Paging[int], *, key: InstrumentedAttribute[int]
) -> Rows[R]:
    """A page of numbered rows."""
    if paging.cursor is not None:
        query = query.where(key > literal(paging.cursor, BigInteger))
    return _cut(session, query.order_by(key), paging, key)


def _cut(session: ReadSession, query: Select[R], paging: Paging[C], key: InstrumentedAttribute[Any]) -> Rows[R]:
    """One row more than asked for tells whether there is a next page."""
    rows = session.scalars(query.limit(paging.limit + 1)).all()
    shown = rows[: paging.limit]
    return Rows(shown, str(getattr(shown[-1], key.key)) if len(rows) > paging.limit else None)
