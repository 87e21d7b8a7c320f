"""What an operator does: look whether processes live, back up, restore."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from audit_service.client import Client
from audit_service.db.migrating import assert_current
from audit_service.embedded._binaries import postgres_bin
from tests.folders import free_port
from tests.service import Audit

DEPLOY = Path(__file__).parents[2] / "deploy"


def healthy(process: str, **environment: str) -> int:
    arguments = [sys.executable, str(DEPLOY / "healthy.py"), process]
    return subprocess.run(arguments, check=False, env=os.environ | environment).returncode


def test_a_container_is_healthy_while_its_api_answers(url: str) -> None:
    assert healthy("api", AUDIT_PORT=url.rpartition(":")[2]) == 0
    assert healthy("api", AUDIT_PORT=str(free_port())) == 1


def test_a_container_is_ill_when_its_worker_does_not_answer(broker_url: str) -> None:
    assert healthy("worker", AUDIT_BROKER_URL=broker_url) == 1


def operate(script: str, file: Path, url: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"AUDIT_DATABASE_URL": url, "PG_BIN": str(postgres_bin())}
    return subprocess.run([DEPLOY / script, file], check=False, env=environment, capture_output=True, text=True)


@pytest.fixture
def empty_database_url(database_url: str) -> Iterator[str]:
    """Another database of the same server, with nothing in it."""
    server, _, _ = database_url.rpartition("/")
    name = f"restored_{uuid.uuid4().hex}"
    admin = server.replace("postgresql+psycopg", "postgresql") + "/postgres"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield f"{server}/{name}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_what_was_backed_up_is_what_is_restored(
    client: Client, audit: Audit, database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    plan = audit.plan()
    file = tmp_path / "backup.dump"
    assert (saved := operate("backup.sh", file, database_url)).returncode == 0, saved.stderr
    assert file.stat().st_mode & 0o077 == 0
    assert (restored := operate("restore.sh", file, empty_database_url)).returncode == 0, restored.stderr
    assert_current(empty_database_url)
    assert _rows(empty_database_url) == _rows(database_url)
    with psycopg.connect(empty_database_url.replace("+psycopg", "")) as connection:
        [digest] = connection.execute("SELECT digest FROM plans").fetchall()
    assert digest == (plan["digest"],)
    again = operate("restore.sh", file, empty_database_url)
    assert again.returncode == 1
    assert "restore into an empty one" in again.stderr


def _rows(url: str) -> dict[str, int]:
    """Table → its number of rows."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        count = sql.SQL("SELECT count(*) FROM {}")
        return {name: connection.execute(count.format(sql.Identifier(name))).fetchall()[0][0] for (name,) in names}
