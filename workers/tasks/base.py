"""What becomes of a run whose task fails."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, cast

import celery
from sqlalchemy import func, select

from audit_service import dispatch
from audit_service.audits import lifecycle
from audit_service.db.handles import ReadSession
from audit_service.db.tables import RunRow
from audit_service.domain.lifecycle import ACTIVE, RunState
from audit_service.errors import AuditError, Unavailable
from workers.engine.memory import is_out_of_memory
from workers.runtime import Runtime, runtime

log = logging.getLogger(__name__)
Ids = ParamSpec("Ids")

_ALONE = 1
"""Seed of this lock's hash; the event log's lock on the same run uses another."""


class RunTask(celery.Task):  # type: ignore[misc]  # celery has no types
    """A task whose first id is a run: when it fails, the run fails with the reason, and can be resumed."""

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:  # noqa: ANN401, ARG002
        if isinstance(exc, Unavailable):
            log.warning("%s: %s", self.name, exc)
            return  # the tables say what is to be done; the reaper asks for it again
        log.error("%s failed: %s", self.name, einfo)
        fail(runtime().of(RunRow, args[0]), args[0], reason=_reason(exc))


def task(name: dispatch.Task, *, of_run: bool = False) -> Callable[[Callable[Ids, None]], Callable[Ids, None]]:
    """Register a function as the answer to a message; ``of_run`` if its first id is a run."""
    register = dispatch.celery().task(name=name.value, base=RunTask if of_run else celery.Task)
    return cast("Callable[[Callable[Ids, None]], Callable[Ids, None]]", register)


def fail(runtime: Runtime, run_id: str, *, reason: str) -> None:
    """End the run with a reason, unless it rests already. What was traced is kept."""
    with runtime.database.writing() as session:
        if lifecycle.locked(session, run_id).state in ACTIVE:
            lifecycle.move(session, run_id, RunState.FAILED, by=runtime.name, reason=reason)


def _reason(error: Exception) -> str:
    if isinstance(error, AuditError):
        return str(error)
    if is_out_of_memory(error):
        return (
            "The model does not fit into the memory of the worker.\n→ Give the worker more memory, or shorten prompts."
        )
    return f"{type(error).__name__}: {error}\n→ This is a defect of the service; the worker's log has the details."


@contextmanager
def alone(runtime: Runtime, run_id: str) -> Iterator[ReadSession | None]:
    """A reading session that nobody else has for this run, or None. The lock ends with the process that holds it."""
    with runtime.database.reading() as session:
        key = func.hashtextextended(run_id, _ALONE)
        yield session if session.scalar(select(func.pg_try_advisory_xact_lock(key))) else None
