import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import InternalError

from audit_service.db.handles import Database, WriteSession, after_commit
from audit_service.db.tables import ModelRow
from audit_service.errors import DatabaseBehind, DatabaseDown, InvalidInput, StorageFull
from audit_service.identity.bootstrap import FIRST_ORGANISATION
from tests.folders import free_port


@pytest.fixture
def database(operator: Database) -> Database:
    return operator.acting_for(FIRST_ORGANISATION)


def count(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(ModelRow)) or 0


def add(session: WriteSession, name: str) -> None:
    session.add(ModelRow(name=name))
    session.flush()


def execute(database: Database, statement: str) -> None:
    with database.writing() as session:
        session.execute(text(statement))


def test_leaving_a_writing_block_commits_and_then_does_what_was_to_be_done_after(database: Database) -> None:
    seen: list[int] = []
    with database.writing() as session:
        add(session, "a")
        after_commit(session, lambda: seen.append(count(database)))
        assert seen == []
    assert seen == [1]


def test_an_error_rolls_back_and_forgets_what_was_to_be_done_after(database: Database) -> None:
    seen: list[int] = []

    def fail() -> None:
        with database.writing() as session:
            add(session, "a")
            after_commit(session, lambda: seen.append(1))
            raise ValueError("too late")

    with pytest.raises(ValueError, match="too late"):
        fail()
    assert count(database) == 0
    assert seen == []


def test_a_reading_block_cannot_write(database: Database) -> None:
    with database.reading() as session, pytest.raises(InternalError, match="read-only transaction"):
        session.execute(text("DELETE FROM models"))


def test_a_reading_block_sees_one_moment(database: Database) -> None:
    with database.reading() as session:
        before = session.scalar(select(func.count()).select_from(ModelRow))
        with database.writing() as other:
            add(other, "a")
        assert session.scalar(select(func.count()).select_from(ModelRow)) == before == 0


def test_a_server_that_is_not_there_is_called_down() -> None:
    database = Database(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
    with pytest.raises(DatabaseDown, match="AUDIT_DATABASE_URL"):
        execute(database, "SELECT 1")


def test_a_connection_that_the_server_ends_is_called_down_and_the_next_one_works(
    database: Database, operator: Database
) -> None:
    with pytest.raises(DatabaseDown):
        execute(operator, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert count(database) == 0


def test_a_full_disk_is_called_so(database: Database) -> None:
    with pytest.raises(StorageFull, match="Free space"):
        execute(database, "DO $$ BEGIN RAISE EXCEPTION 'No space left' USING ERRCODE = '53100'; END $$")


def test_a_missing_table_means_that_migrations_are_missing(database: Database, operator: Database) -> None:
    execute(operator, "DROP TABLE metrics")
    with pytest.raises(DatabaseBehind, match="audit-service migrate"):
        execute(database, "SELECT * FROM metrics")


def test_a_missing_column_means_that_migrations_are_missing(database: Database, operator: Database) -> None:
    execute(operator, "ALTER TABLE models DROP COLUMN name")
    with pytest.raises(DatabaseBehind, match="audit-service migrate"):
        execute(database, "SELECT name FROM models WHERE name = 'a'")


def test_a_value_that_postgres_cannot_hold_is_the_senders_mistake(database: Database) -> None:
    with pytest.raises(InvalidInput, match="NUL"), database.writing() as session:
        add(session, "a\x00b")
