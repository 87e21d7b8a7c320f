from threading import Thread

from fastapi import FastAPI

from audit_service.db.handles import Database
from audit_service.domain.lifecycle import EventKind
from audit_service.events import repository
from audit_service.identity import bootstrap
from tests.service import Audit


def numbers(database: Database, run_id: str, *, after: int = 0) -> list[int]:
    with database.reading() as session:
        return [event.seq for event in repository.after(session, run_id, seq=after)]


def append(database: Database, run_id: str) -> None:
    with database.writing() as session:
        repository.append(session, run_id, EventKind.PROGRESS, actor="test", data={})


def test_whoever_has_seen_a_number_never_misses_a_lower_one(audit: Audit, database: Database) -> None:
    run_id = audit.run()["id"]
    before = numbers(database, run_id)
    with database.writing() as session:
        repository.append(session, run_id, EventKind.PROGRESS, actor="first", data={})
        second = Thread(target=append, args=(database, run_id))
        second.start()
        second.join(0.2)
        assert second.is_alive()
        assert numbers(database, run_id) == before
    second.join()
    seen = numbers(database, run_id)
    assert len(seen) == len(before) + 2
    assert seen == sorted(seen)


def test_organisations_do_not_wait_for_each_other(audit: Audit, database: Database, app: FastAPI) -> None:
    other = bootstrap.add_organisation(app.state.database, "other bank", email="eva@other.example", password=None)
    theirs = app.state.database.acting_for(other.row.organisation_id)
    with database.writing() as session:
        repository.append(session, None, EventKind.SHARE, actor="test", data={})
        with theirs.writing() as another:
            repository.append(another, None, EventKind.SHARE, actor="test", data={})


def test_reading_goes_on_after_the_last_number_seen(audit: Audit, database: Database) -> None:
    run_id = audit.run()["id"]
    for _ in range(3):
        append(database, run_id)
    seen = numbers(database, run_id)
    assert numbers(database, run_id, after=seen[1]) == seen[2:]
