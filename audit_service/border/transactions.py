"""The transactions of a request, for its caller's organisation. They end before the answer is sent: what is
answered is kept.
"""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends

from audit_service.border.handle import Handle
from audit_service.db.handles import Database, ReadSession, WriteSession
from audit_service.identity.authentication import Caller


def _own(handle: Handle, caller: Caller) -> Database:
    return handle.acting(caller.acting)


Own = Annotated[Database, Depends(_own)]
"""The database for the caller, for endpoints that need more than one transaction."""


def _reading(own: Own) -> Iterator[ReadSession]:
    with own.reading() as session:
        yield session


def _writing(own: Own) -> Iterator[WriteSession]:
    with own.writing() as session:
        yield session


def _actor(caller: Caller) -> str:
    return caller.name


Reading = Annotated[ReadSession, Depends(_reading, scope="function")]
Writing = Annotated[WriteSession, Depends(_writing, scope="function")]
Actor = Annotated[str, Depends(_actor)]
"""Who asks, as it stands in the event log."""
