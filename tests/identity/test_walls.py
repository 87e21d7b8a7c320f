"""Two walls between organisations: the session's filter, and Postgres' row-level security behind it."""

from collections.abc import Iterator

import pytest
from sqlalchemy import event, func, insert, inspect, select, text, update
from sqlalchemy.exc import ProgrammingError

from audit_service.db import handles
from audit_service.db.base import Base, Offered, Owned
from audit_service.db.handles import Database
from audit_service.db.tables import MetricRow, ModelRow
from audit_service.domain.readings import BUILT_IN
from audit_service.domain.roles import Role
from audit_service.identity import bootstrap, people
from audit_service.identity.bootstrap import FIRST_ORGANISATION


@pytest.fixture
def mine(operator: Database) -> Database:
    return operator.acting_for(FIRST_ORGANISATION)


@pytest.fixture
def theirs(operator: Database) -> Database:
    made = bootstrap.add_organisation(operator, "other bank", email="eva@other.example", password=None)
    return operator.acting_for(made.row.organisation_id)


@pytest.fixture
def without_the_filter() -> Iterator[None]:
    event.remove(handles._Session, "do_orm_execute", handles._within_the_organisation)
    yield
    event.listen(handles._Session, "do_orm_execute", handles._within_the_organisation)


def add(database: Database, name: str) -> str:
    with database.writing() as session:
        row = ModelRow(name=name)
        session.add(row)
        session.flush()
        return row.id


def names(database: Database) -> list[str]:
    with database.reading() as session:
        return sorted(session.scalars(select(ModelRow.name)))


def test_an_organisation_sees_its_own_rows_and_names_are_its_own(
    operator: Database, mine: Database, theirs: Database
) -> None:
    add(mine, "a")
    foreign = add(theirs, "a")
    assert names(mine) == names(theirs) == ["a"]
    assert names(operator) == ["a", "a"]
    with mine.reading() as session:
        assert session.get(ModelRow, foreign) is None
        assert session.scalar(select(func.count()).select_from(ModelRow)) == 1


def test_without_the_applications_filter_postgres_hides_and_keeps_foreign_rows(
    mine: Database, theirs: Database, without_the_filter: None
) -> None:
    foreign = add(theirs, "secret")
    assert names(mine) == []
    with mine.writing() as session:
        assert session.get(ModelRow, foreign) is None
        assert session.execute(text("SELECT count(*) FROM models")).scalar_one() == 0
        session.execute(text("UPDATE models SET name = 'mine'"))
        session.execute(text("DELETE FROM models"))
    assert names(theirs) == ["secret"]


def test_without_row_level_security_the_applications_filter_hides_foreign_rows(
    operator: Database, mine: Database, theirs: Database
) -> None:
    foreign = add(theirs, "secret")
    with operator.writing() as session:
        session.execute(text("ALTER TABLE models DISABLE ROW LEVEL SECURITY"))
    assert names(mine) == []
    with mine.writing() as session:
        assert session.get(ModelRow, foreign) is None
        session.execute(update(ModelRow).values(name="mine"))
    assert names(theirs) == ["secret"]


def test_nobody_writes_a_row_for_another_organisation(mine: Database, theirs: Database) -> None:
    assert theirs.whom is not None
    planted = insert(ModelRow).values(name="planted", organisation_id=theirs.whom.organisation_id)
    with pytest.raises(ProgrammingError, match="row-level security"), mine.writing() as session:
        session.execute(planted)


def test_nobody_is_shown_nothing(operator: Database, mine: Database) -> None:
    add(mine, "a")
    assert names(operator.acting(handles.Acting())) == []


def test_what_is_built_in_is_everybodys_and_nobody_changes_it(mine: Database, theirs: Database) -> None:
    for database in (mine, theirs):
        with database.writing() as session:
            assert session.scalar(select(func.count()).select_from(MetricRow)) == len(BUILT_IN)
            session.execute(text("UPDATE metrics SET name = 'mine'"))
    with mine.reading() as session:
        assert "log-odds" in session.scalars(select(MetricRow.name)).all()


def test_people_of_other_organisations_are_not_seen(mine: Database, theirs: Database) -> None:
    with mine.writing() as session:
        people.add(
            session, FIRST_ORGANISATION, email="anna@bank.example", name="Anna", role=Role.ANALYST, password=None
        )
    for database, email in ((mine, "anna@bank.example"), (theirs, "eva@other.example")):
        with database.reading() as session:
            assert session.execute(text("SELECT email FROM users")).scalars().all() == [email]


def test_every_table_that_carries_an_organisation_stands_behind_both_walls(operator: Database) -> None:
    with operator.reading() as session:
        secured = set(session.scalars(text("SELECT relname FROM pg_class WHERE relrowsecurity AND relkind = 'r'")))
        with_policy = set(session.scalars(text("SELECT tablename FROM pg_policies WHERE roles = '{audit_tenant}'")))
        tables = set(inspect(session.connection()).get_table_names())
    carriers = {name for name, table in Base.metadata.tables.items() if "organisation_id" in table.columns}
    assert carriers | {"organisations", "users"} == secured == with_policy
    assert tables - secured == {"alembic_version", "sign_ins"}
    classes = [mapper.class_ for mapper in Base.registry.mappers]
    filtered = {one.__tablename__ for one in classes if issubclass(one, Owned | Offered)}
    assert carriers - filtered == {"idempotency_keys"}
