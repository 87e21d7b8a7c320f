from collections.abc import Iterator
from threading import Thread

import pytest

from audit_service.db import locks
from audit_service.db.handles import Database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def test_the_second_holder_of_a_name_waits_for_the_first_one_to_commit(database: Database) -> None:
    order = []

    def second() -> None:
        with database.writing() as session:
            locks.hold(session, "a")
            order.append("second")

    with database.writing() as session:
        locks.hold(session, "a")
        thread = Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_different_names_do_not_wait_for_each_other(database: Database) -> None:
    with database.writing() as session, database.writing() as other:
        locks.hold(session, "a")
        locks.hold(other, "b")
