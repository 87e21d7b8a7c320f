"""The private Postgres and broker, as a user's processes meet them."""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from audit_service.embedded import Endpoints, _binaries, _identity, _postgres, services
from audit_service.embedded._identity import Identity
from audit_service.embedded.processes import free_port
from audit_service.errors import BrokerDown, DatabaseDown, StorageFull, Unavailable
from audit_service.settings import Settings
from tests.folders import open_folder

HOLD = """
import sys, time
from pathlib import Path
from audit_service.embedded import services
from audit_service.settings import Settings
with services(Settings(data_dir=Path(sys.argv[1]))) as endpoints:
    print(endpoints.database_url, endpoints.broker_url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def used_folder() -> Iterator[Path]:
    """A data directory that has been in use; making one anew in each test would take a second each time."""
    with open_folder() as path:
        yield path


@pytest.fixture
def folder(used_folder: Path) -> Path:
    assert working_in(used_folder) == []
    return used_folder


@pytest.fixture
def new_folder() -> Iterator[Path]:
    with open_folder() as path:
        yield path


@pytest.fixture
def settings(folder: Path) -> Settings:
    return Settings(data_dir=folder)


def query(endpoints: Endpoints, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(endpoints.database_url.replace("+psycopg", ""), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def broker(endpoints: Endpoints) -> redis.Redis:
    return redis.Redis.from_url(endpoints.broker_url, decode_responses=True)


def working_in(folder: Path) -> list[psutil.Process]:
    """Processes whose working directory lies in the folder: what the servers have, and nothing else has."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def eventually(condition: Callable[[], bool], *, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def hold(folder: Path, *, script: str = HOLD) -> subprocess.Popen[str]:
    """Another process that has started the services, or joined them, and stays until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("postgresql+psycopg://")
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.communicate()
    assert process.returncode == 0


def test_starts_both_and_stops_both(folder: Path, settings: Settings) -> None:
    with services(settings) as endpoints:
        assert query(endpoints, "SELECT current_database(), current_user") == [("audit", "audit")]
        assert broker(endpoints).ping()
        assert endpoints.owned
        assert working_in(folder)
    assert working_in(folder) == []


def test_data_and_addresses_survive_a_restart(settings: Settings) -> None:
    with services(settings) as first:
        query(first, "CREATE TABLE restarted (value int)")
        query(first, "INSERT INTO restarted VALUES (41)")
        broker(first).lpush("restarted", "message")
    with services(settings) as second:
        assert query(second, "SELECT value FROM restarted") == [(41,)]
        assert broker(second).lrange("restarted", 0, -1) == ["message"]
    assert second == first


def test_another_process_joins_and_leaves_the_services_running(folder: Path, settings: Settings) -> None:
    with services(settings) as endpoints:
        joined = hold(folder)
        end(joined)
        assert query(endpoints, "SELECT 1") == [(1,)]
        assert broker(endpoints).ping()


def test_a_process_that_joins_knows_who_holds_the_services(folder: Path, settings: Settings) -> None:
    owner = hold(folder)
    with services(settings) as endpoints:
        assert not endpoints.owned
        assert endpoints.owner == owner.pid
    end(owner)


def test_killing_the_owner_ends_its_servers_and_loses_nothing(folder: Path, settings: Settings) -> None:
    owner = hold(folder)
    with services(settings) as endpoints:
        query(endpoints, "CREATE TABLE kept (value int)")
        broker(endpoints).lpush("queue", "message")
    owner.kill()
    owner.communicate()
    assert eventually(lambda: working_in(folder) == [])
    assert "database system is shut down" in (folder / "postgres.log").read_text()
    with services(settings) as endpoints:
        assert endpoints.owned
        assert query(endpoints, "SELECT count(*) FROM kept") == [(0,)]
        assert broker(endpoints).lrange("queue", 0, -1) == ["message"]


def test_a_forked_child_does_not_keep_the_servers_of_a_killed_owner(folder: Path, settings: Settings) -> None:
    owner = hold(folder, script=HOLD.replace("    sys.stdin", "    import os; os.fork()\n    sys.stdin"))

    def forked() -> list[psutil.Process]:
        return [one for one in psutil.Process(owner.pid).children() if one.cmdline() == owner.args]

    with services(settings):
        assert eventually(lambda: len(forked()) == 1)
        (child,) = forked()
    owner.kill()
    assert eventually(lambda: working_in(folder) == [])
    assert child.is_running()
    owner.communicate()


def test_servers_that_outlived_a_killed_owner_are_ended_by_the_next(folder: Path, settings: Settings) -> None:
    owner = hold(folder)
    watchdogs = [child for child in psutil.Process(owner.pid).children() if "audit-service-watchdog" in child.cmdline()]
    assert len(watchdogs) == 2
    for watchdog in watchdogs:
        watchdog.kill()
    owner.kill()
    owner.communicate()
    orphans = working_in(folder)
    assert orphans
    with services(settings) as endpoints:
        assert not any(orphan.is_running() and orphan in working_in(folder) for orphan in orphans)
        assert query(endpoints, "SELECT 1") == [(1,)]


def test_pid_files_that_name_somebody_else_are_not_believed(folder: Path, settings: Settings) -> None:
    with services(settings):
        pass
    bystander = str(os.getpid())
    (folder / "postgres" / "postmaster.pid").write_text(f"{bystander}\n{folder}\n")
    (folder / "broker" / "broker.pid").write_text(bystander)
    with services(settings) as endpoints:
        assert query(endpoints, "SELECT 1") == [(1,)]
        assert broker(endpoints).ping()


def test_an_owner_that_stopped_cleanly_is_not_joined(settings: Settings) -> None:
    with services(settings) as first:
        pass
    with services(settings) as second:
        assert second.owned
        assert query(second, "SELECT 1") == [(1,)]
    assert first.owner == second.owner


def test_no_one_gets_in_without_the_password(folder: Path, settings: Settings) -> None:
    with services(settings) as endpoints:
        wrong = endpoints.database_url.replace("+psycopg", "").replace(password(folder), "guess")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)
        with pytest.raises(redis.AuthenticationError):
            redis.Redis.from_url(endpoints.broker_url.replace(password(folder), "guess")).ping()


def test_secrets_are_readable_by_their_owner_only(folder: Path, settings: Settings) -> None:
    with services(settings) as endpoints:
        assert stat.S_IMODE((folder / "password").stat().st_mode) == 0o600
        assert password(folder) not in repr(endpoints)
        commands = [" ".join(process.cmdline()) for process in working_in(folder)]
        assert commands
        assert not any(password(folder) in command for command in commands)
        methods = query(endpoints, "SELECT DISTINCT auth_method FROM pg_hba_file_rules")
        assert methods == [("scram-sha-256",)]


def password(folder: Path) -> str:
    return (folder / "password").read_text()


def test_given_servers_are_used_and_nothing_is_started(new_folder: Path) -> None:
    given = Settings(
        database_url="postgresql://somewhere/db", broker_url="redis://somewhere/0", data_dir=new_folder / "untouched"
    )
    with services(given) as endpoints:
        assert endpoints.database_url == "postgresql+psycopg://somewhere/db"
        assert endpoints.broker_url == "redis://somewhere/0"
        assert endpoints.owner is None
    assert not (new_folder / "untouched").exists()


def test_only_what_is_not_given_is_started(new_folder: Path) -> None:
    with services(Settings(database_url="postgresql://somewhere/db", data_dir=new_folder)) as endpoints:
        assert broker(endpoints).ping()
        assert not (new_folder / "postgres").exists()
        with pytest.raises(Unavailable, match="runs no embedded database"), services(Settings(data_dir=new_folder)):
            pass


def test_a_half_made_cluster_is_made_again(new_folder: Path) -> None:
    partial = new_folder / "postgres.partial"
    partial.mkdir()
    (partial / "PG_VERSION").write_text("18")
    with services(Settings(data_dir=new_folder)) as endpoints:
        assert query(endpoints, "SELECT 1") == [(1,)]
    assert not partial.exists()


def test_data_of_another_major_version_are_refused(new_folder: Path) -> None:
    (new_folder / "postgres").mkdir()
    (new_folder / "postgres" / "PG_VERSION").write_text("9")
    with pytest.raises(DatabaseDown, match="No PostgreSQL 9 was found"), services(Settings(data_dir=new_folder)):
        pass
    assert working_in(new_folder) == []


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(_binaries, "_package", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(_binaries, "SYSTEM_POSTGRES", Path("/nonexistent"))
    with pytest.raises(DatabaseDown, match="No PostgreSQL") as refused, services(settings):
        pass
    assert "AUDIT_DATABASE_URL" in refused.value.remedy
    with pytest.raises(BrokerDown, match="No broker"):
        _binaries.broker_binary()


def test_what_the_database_says_when_it_cannot_start_is_passed_on(new_folder: Path) -> None:
    with services(Settings(data_dir=new_folder)):
        pass
    (new_folder / "postgres" / "postgresql.conf").write_text("nonsense = 1\n")
    with pytest.raises(DatabaseDown) as failed, services(Settings(data_dir=new_folder)):
        pass
    assert any("nonsense" in line for line in failed.value.details)
    assert working_in(new_folder) == []


def test_a_full_disk_is_called_by_its_name() -> None:
    with pytest.raises(StorageFull, match="the disk is full"):
        _postgres._explain("FATAL:  could not write lock file: No space left on device\n", what="It did not start")


def test_a_folder_that_cannot_be_written_is_named(new_folder: Path) -> None:
    (new_folder / "file").write_text("not a folder")
    with pytest.raises(Unavailable, match="cannot be used"), services(Settings(data_dir=new_folder / "file" / "data")):
        pass


def test_the_state_file_holds_no_secret(folder: Path, settings: Settings) -> None:
    with services(settings):
        state = json.loads((folder / "services.json").read_text())
        assert set(state) == {"owner", "database_port", "broker_port"}


def test_a_port_in_use_is_not_taken_again(settings: Settings) -> None:
    with services(settings) as endpoints:
        taken = int(endpoints.broker_url.rpartition(":")[2].partition("/")[0])
        assert free_port(taken) != taken
    assert free_port(taken) == taken


@pytest.mark.parametrize("way", ["user namespace", "other user"])
def test_postgres_runs_under_each_identity_that_root_can_lend(way: str, new_folder: Path) -> None:
    identity = identity_of(way)
    port = free_port(None)
    child = _postgres.start_postgres(new_folder, port=port, password="guarded", identity=identity)
    try:
        with psycopg.connect(f"postgresql://audit:guarded@127.0.0.1:{port}/audit") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        child.stop()


def identity_of(way: str) -> Identity:
    """The way asked for where it exists; without root or without namespaces the one that is used there."""
    if os.geteuid() != 0:
        return _identity.present_identity()
    if way == "other user":
        return _identity.as_other_user()
    return _identity.in_user_namespace() or _identity.present_identity()
