"""What every table shares: names of constraints, time-ordered ids, and values stored as JSON."""

import os
import time
import uuid
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import DateTime, Dialect, Enum, ForeignKey, MetaData, TypeDecorator, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from audit_service.errors import WrittenOtherwise

R = TypeVar("R")

Timestamp = DateTime(timezone=True)
Id = Uuid(as_uuid=False)


def new_id() -> str:
    """A UUIDv7 (RFC 9562): ids sort by time of creation, so they serve as paging cursors."""
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    fraction = rest * 4096 // 1_000_000
    noise = int.from_bytes(os.urandom(8)) >> 2
    return str(uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | noise))


def choice(kind: type[StrEnum]) -> Enum:
    """A column of one of the words, stored as text so that a new word needs no new database type."""
    return Enum(kind, native_enum=False, length=32, values_callable=lambda words: [word.value for word in words])


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Identified:
    """A row that the outside can name."""

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    created_at: Mapped[datetime] = mapped_column(Timestamp, server_default=func.now())


class Owned:
    """A row of one organisation: the one that the transaction acts for, unless it is said.

    Sessions and Postgres both hide it from transactions that act for another; see ``db.handles``.
    """

    organisation_id: Mapped[str] = mapped_column(
        Id, ForeignKey("organisations.id"), server_default=text("audit_organisation()")
    )


class Offered:
    """A row of one organisation, or of none and then seen by all."""

    organisation_id: Mapped[str | None] = mapped_column(
        Id, ForeignKey("organisations.id"), server_default=text("audit_organisation()")
    )


class Ensured(NamedTuple, Generic[R]):
    """A row that is there now."""

    row: R
    is_new: bool
    """False: it was there before."""


class Value(TypeDecorator[Any]):
    """A domain value as its own class, in a JSON column: JSONB would give back its tables in another order."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def __init__(self, kind: Any) -> None:  # noqa: ANN401 - whatever pydantic can validate
        super().__init__()
        self.kind = kind

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.kind)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ANN401, ARG002
        return None if value is None else self._adapter.dump_python(value, mode="json")

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ANN401, ARG002
        # JSON has neither tuples nor enums, so what we wrote ourselves is read leniently.
        try:
            return None if value is None else self._adapter.validate_python(value, strict=False)
        except ValidationError as error:
            raise WrittenOtherwise(
                f"A stored {getattr(self.kind, '__name__', 'value').lower()} was written by another version of the "
                "service, in a form that this one does not know.",
                remedy="Read it with the version that wrote it; its reports and bundles hold as they are. For new runs "
                "make it again with this version.",
                details=[f"{'/'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5]],
            ) from error
