from datetime import datetime
from threading import Thread

import pytest

from audit_service.audits import lifecycle
from audit_service.db import locks
from audit_service.db.handles import Database
from audit_service.db.tables import RunRow
from audit_service.domain.lifecycle import EventKind, RunState
from audit_service.errors import AuditError, Conflict, NotFound
from audit_service.events import repository as events
from audit_service.identity.bootstrap import FIRST_ORGANISATION
from tests.service import Audit


def move(database: Database, run_id: str, to: RunState, reason: str | None = None) -> None:
    with database.writing() as session:
        lifecycle.move(session, run_id, to, by="test", reason=reason)


def test_state_and_event_are_written_together_or_not_at_all(audit: Audit, database: Database) -> None:
    run_id = audit.run()["id"]
    move(database, run_id, RunState.FAILED, "disk full")
    with pytest.raises(Conflict):
        move(database, run_id, RunState.COMPLETED)
    with database.reading() as session:
        assert session.get_one(RunRow, run_id).state is RunState.FAILED
        assert [event.data for event in events.after(session, run_id, seq=0)][1:] == [
            {"from": "queued", "to": "failed", "reason": "disk full"}
        ]


def test_of_two_opposite_moves_the_second_sees_the_first(audit: Audit, database: Database) -> None:
    run_id = audit.run()["id"]
    caught: list[AuditError] = []

    def resume() -> None:
        try:
            move(database, run_id, RunState.PAUSED)
        except AuditError as error:
            caught.append(error)

    with database.writing() as session:
        lifecycle.move(session, run_id, RunState.CANCELLED, by="test")
        other = Thread(target=resume)
        other.start()
        other.join(0.2)
        assert other.is_alive()
    other.join()
    assert [type(error) for error in caught] == [Conflict]


def times(database: Database, run_id: str) -> tuple[datetime | None, datetime | None]:
    with database.reading() as session:
        run = session.get_one(RunRow, run_id)
        return run.started_at, run.ended_at


def test_a_run_starts_once_and_ends_when_nothing_more_comes(audit: Audit, database: Database) -> None:
    run_id = audit.run()["id"]
    assert times(database, run_id) == (None, None)
    move(database, run_id, RunState.RUNNING)
    started, _ = times(database, run_id)
    for to in (RunState.PAUSED, RunState.QUEUED, RunState.RUNNING):
        move(database, run_id, to)
        assert times(database, run_id) == (started, None)
    move(database, run_id, RunState.FAILED)
    assert times(database, run_id)[1] is not None
    move(database, run_id, RunState.QUEUED)
    assert times(database, run_id) == (started, None)


def test_a_run_that_is_not_there_cannot_be_moved(database: Database) -> None:
    with pytest.raises(NotFound):
        move(database, "01936f5e-7c1a-7a3e-8f00-0242ac120002", RunState.CANCELLED)


def test_a_move_and_a_heartbeat_at_the_same_moment_do_not_block_each_other(audit: Audit, database: Database) -> None:
    run_id = audit.run()["id"]
    mover = Thread(target=move, args=(database, run_id, RunState.CANCELLED))
    with database.writing() as session:
        # The heartbeat is about to add its event when the user's move locks the run.
        locks.hold(session, f"events/{FIRST_ORGANISATION}")
        mover.start()
        mover.join(0.3)
        events.append(session, run_id, EventKind.PROGRESS, actor="worker:a", data={})
    mover.join()
    with database.reading() as session:
        assert session.get_one(RunRow, run_id).state is RunState.CANCELLED
        assert [event.kind for event in events.after(session, run_id, seq=0)] == ["state", "progress", "state"]
