"""What the tests stand on: a real Postgres and a real broker that they start themselves, and no network."""

import errno
import ipaddress
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from audit_service.db.handles import Database
from audit_service.db.migrating import migrate
from audit_service.embedded import Endpoints, services
from audit_service.settings import Settings, get_settings
from tests.folders import open_folder

# Nothing of the developer's own settings reaches a test, and no library looks for a newer model on its own.
for name in [name for name in os.environ if name.startswith("AUDIT_") and name != "AUDIT_CACHE_DIR"]:
    del os.environ[name]
os.environ["HF_HUB_OFFLINE"] = "1"

pytest_plugins = ["tests.service", "tests.things"]


@pytest.fixture(scope="session", autouse=True)
def _only_loopback() -> Iterator[None]:
    """A test that reaches for the network fails with the address it wanted."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and not _is_loopback(address[0]):
            raise PermissionError(errno.EACCES, f"a test wanted to reach {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture(autouse=True)
def _settings_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever reads the settings in a test finds an empty data directory, never the developer's."""
    monkeypatch.setenv("AUDIT_DATA_DIR", str(tmp_path / "audit-data"))
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where there is no CUDA device to run them on; a machine may skip no others."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch  # noqa: PLC0415 - it takes seconds that most runs need not pay

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The demonstration model's folder, in the user's own cache since it takes a download of 93 MB to make."""
    from workers.demo_model import ensure_demo_model  # noqa: PLC0415 - imports torch

    return ensure_demo_model(Settings().cache_dir, progress=print)


@pytest.fixture(scope="session")
def servers() -> Iterator[Endpoints]:
    """The session's Postgres and broker. Use `database_url` and `broker_url`, which are empty in each test."""
    with open_folder() as folder, services(Settings(data_dir=folder)) as endpoints:
        with _admin(endpoints) as connection:  # what a crash of the machine would lose is not worth waiting for
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield endpoints


@pytest.fixture(scope="session")
def _migrated(servers: Endpoints) -> str:
    migrate(servers.database_url)
    return servers.database_url.rpartition("/")[2]


@pytest.fixture
def database_url(servers: Endpoints, _migrated: str) -> Iterator[str]:
    """A database of this test's own, at the newest migration, with real commits; it is dropped afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    with _admin(servers) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {_migrated} STRATEGY file_copy")
    yield servers.database_url.rpartition("/")[0] + f"/{name}"
    with _admin(servers) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def operator(database_url: str) -> Iterator[Database]:
    """The test's database for the service itself, which sees all organisations."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def broker_url(servers: Endpoints) -> Iterator[str]:
    """The broker, with nothing in it."""
    yield servers.broker_url
    with redis.Redis.from_url(servers.broker_url) as client:
        client.flushall()


def _admin(endpoints: Endpoints) -> psycopg.Connection:
    url = endpoints.database_url.replace("postgresql+psycopg", "postgresql").rpartition("/")[0]
    return psycopg.connect(f"{url}/postgres", autocommit=True)
