"""What lists of every kind ask of their rows."""

from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute

R = TypeVar("R")


def narrowed(query: Select[R], wanted: Mapping[InstrumentedAttribute[Any], object]) -> Select[R]:
    """Only rows whose columns have these values; None asks nothing of a column."""
    return query.where(*(column == value for column, value in wanted.items() if value is not None))
