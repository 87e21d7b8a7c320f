"""The transactions of a request. They end before the answer is sent: what is answered is kept."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request

from audit_service.db.handles import Database, ReadSession, WriteSession


def database(request: Request) -> Database:
    handle: Database = request.app.state.database
    return handle


def _reading(handle: Annotated[Database, Depends(database)]) -> Iterator[ReadSession]:
    with handle.reading() as session:
        yield session


def _writing(handle: Annotated[Database, Depends(database)]) -> Iterator[WriteSession]:
    with handle.writing() as session:
        yield session


def _actor() -> str:
    return "user:local"


Handle = Annotated[Database, Depends(database)]
Reading = Annotated[ReadSession, Depends(_reading, scope="function")]
Writing = Annotated[WriteSession, Depends(_writing, scope="function")]
Actor = Annotated[str, Depends(_actor)]
"""Who asks. A service for one user on one machine knows only that user."""
