import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from audit_service.db import tables
from audit_service.db.base import Base
from audit_service.db.handles import Database, connect
from audit_service.db.migrating import SCRIPTS, assert_current, migrate
from audit_service.db.tables import ApprovalRow, MetricRow, PlanRow, RunRow, TokenRow
from audit_service.domain.manifest import digest
from audit_service.domain.readings import BUILT_IN
from audit_service.errors import DatabaseBehind, DatabaseDown
from tests.folders import free_port
from tests.identity.made import issue
from tests.service import Audit

MIGRATIONS = sorted((SCRIPTS / "versions").glob("*.py"))


@pytest.fixture
def empty_url(database_url: str) -> str:
    engine = connect(database_url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return database_url


def test_the_migrations_give_exactly_the_tables_that_the_code_declares(database_url: str) -> None:
    engine = connect(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_every_table_is_exported() -> None:
    declared = {mapper.class_.__name__ for mapper in Base.registry.mappers}
    assert declared == set(tables.__all__)


def test_a_database_without_the_migrations_is_called_behind_and_is_left_as_it_is(empty_url: str) -> None:
    for _ in range(2):
        with pytest.raises(DatabaseBehind, match="audit-service migrate"):
            assert_current(empty_url)


def test_a_migrated_database_is_current(empty_url: str) -> None:
    migrate(empty_url)
    assert_current(empty_url)


def test_two_migrations_at_once_wait_for_each_other(empty_url: str) -> None:
    code = "import sys; from audit_service.db.migrating import migrate; migrate(sys.argv[1])"
    both = [subprocess.Popen([sys.executable, "-c", code, empty_url]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert_current(empty_url)


def test_migrating_a_server_that_is_not_there_says_so() -> None:
    for act in (migrate, assert_current):
        with pytest.raises(DatabaseDown):
            act(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")


@pytest.mark.parametrize("file", MIGRATIONS, ids=lambda file: file.stem)
def test_a_migration_is_named_by_its_date_and_begins_with_a_lock_timeout(file: Path) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-\d{4}_[a-z0-9_]+", file.stem)
    for function in ("upgrade", "downgrade"):
        body = file.read_text().partition(f"def {function}() -> None:\n")[2]
        assert body.lstrip().startswith('op.execute("SET LOCAL lock_timeout')


def test_the_built_in_metrics_are_there_from_the_first_migration_on(database_url: str) -> None:
    database = Database(database_url)
    with database.reading() as session:
        rows = session.scalars(select(MetricRow).order_by(MetricRow.id)).all()
    database.close()
    assert [row.content for row in rows] == list(BUILT_IN)
    assert [row.digest for row in rows] == [digest(metric) for metric in BUILT_IN]


def test_who_answers_for_what_is_there_already_is_found_in_the_log(
    api: TestClient, audit: Audit, database_url: str, operator: Database
) -> None:
    plan, run = audit.plan(), audit.run()
    wanted = {"record": "plan", "plan_id": plan["id"], "digest": plan["digest"]}
    assert api.post("/v1/approvals", json=wanted).status_code == 201
    issue(api, role="analyst")

    def people() -> list[Any]:
        with operator.reading() as session:
            rows = [session.get_one(PlanRow, plan["id"]).person_id, session.get_one(RunRow, run["id"]).person_id]
            tokens = session.scalars(select(TokenRow.maker_id).where(TokenRow.role.is_not(None))).all()
            return [*rows, *tokens, *session.scalars(select(ApprovalRow.prepared_by))]

    before = people()
    assert len({str(one) for one in before}) == 2  # the administrator, alone and in a list
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["engine"] = operator.engine
    command.downgrade(config, "0013")
    migrate(database_url)
    assert people() == before
