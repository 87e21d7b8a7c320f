"""The embedded default: a private Postgres and a private broker, for whoever has set up none.

The first process that asks starts both as its own child processes and holds a lock on the data directory; they stop
when it leaves. Every other process finds them through the state file and joins. What lies in the data directory:

- `postgres/`, `broker/`: the data; `postgres.log`, `broker.log`: what the programs said
- `password`: generated on the first start, readable by its owner only
- `services.lock`, `services.json`: who holds the services, and where they listen
"""

import errno
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil

from audit_service.embedded._broker import start_broker
from audit_service.embedded._identity import Identity, present_identity
from audit_service.embedded._postgres import DATABASE, USER, start_postgres
from audit_service.embedded.processes import free_port
from audit_service.errors import StorageFull, Unavailable
from audit_service.files import write_secret
from audit_service.settings import Settings

_JOIN_SECONDS = 90


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the database and the broker are, and whose they are."""

    database_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    owner: int | None = None
    """Process that started what is embedded; none when both were given."""

    @property
    def owned(self) -> bool:
        """Whether they stop when this process leaves."""
        return self.owner == os.getpid()


@contextmanager
def services(settings: Settings) -> Iterator[Endpoints]:
    """The database and the broker to use: the given ones, and an embedded one for each that is not given."""
    if settings.database_url and settings.broker_url:
        yield Endpoints(settings.database_url, settings.broker_url)
        return
    with ExitStack() as stack:
        with _storage(settings.data_dir):
            found = _start_or_join(settings, stack)
        yield Endpoints(
            settings.database_url or found.database_url, settings.broker_url or found.broker_url, owner=found.owner
        )


@dataclass(frozen=True, slots=True)
class _State:
    """What the state file says."""

    owner: int | None
    """None after a clean stop: the ports are kept, so that who knew the services finds them again."""
    database_port: int | None
    broker_port: int | None

    def is_live(self) -> bool:
        """False for what an owner left behind when it was killed."""
        return self.owner is not None and psutil.pid_exists(self.owner)


def _start_or_join(settings: Settings, stack: ExitStack) -> Endpoints:
    """Become the owner if there is none; otherwise wait until the owner has written where to find the services."""
    folder = settings.data_dir
    # Root may have to let another user pass; the names in here are no secret, and the files are closed.
    folder.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    lock = stack.enter_context((folder / "services.lock").open("a"))
    deadline = time.monotonic() + _JOIN_SECONDS
    while True:
        if _locked(lock.fileno()):
            return _endpoints(folder, _start(settings, stack, present_identity()))
        state = _read_state(folder)
        if state is not None and state.is_live():
            return _endpoints(folder, _joinable(state, settings))
        if time.monotonic() > deadline:
            raise Unavailable(
                f"Another process holds {folder}, but has not started its services within {_JOIN_SECONDS} s.",
                remedy="End that process, or set AUDIT_DATA_DIR to another folder.",
            )
        time.sleep(0.05)


def _start(settings: Settings, stack: ExitStack, identity: Identity) -> _State:
    folder, before = settings.data_dir, _read_state(settings.data_dir)
    password = _password(folder)
    database_port = broker_port = None
    if settings.database_url is None:
        database_port = free_port(before.database_port if before else None)
        database = start_postgres(folder, port=database_port, password=password, identity=identity)
        stack.callback(database.stop)
    if settings.broker_url is None:
        broker_port = free_port(before.broker_port if before else None)
        broker = start_broker(folder, port=broker_port, password=password)
        stack.callback(broker.stop)
    state = _State(owner=os.getpid(), database_port=database_port, broker_port=broker_port)
    _write_state(folder, state)
    stack.callback(_write_state, folder, replace(state, owner=None))
    return state


def _joinable(state: _State, settings: Settings) -> _State:
    lacks_database = settings.database_url is None and state.database_port is None
    lacks_broker = settings.broker_url is None and state.broker_port is None
    if lacks_database or lacks_broker:
        raise Unavailable(
            f"Process {state.owner} holds {settings.data_dir} with other settings: it runs no embedded "
            f"{'database' if lacks_database else 'broker'}.",
            remedy="Give both processes the same AUDIT_DATABASE_URL and AUDIT_BROKER_URL, or another AUDIT_DATA_DIR.",
        )
    return state


def _endpoints(folder: Path, state: _State) -> Endpoints:
    password = (folder / "password").read_text()
    return Endpoints(
        database_url=f"postgresql+psycopg://{USER}:{password}@127.0.0.1:{state.database_port}/{DATABASE}",
        broker_url=f"redis://:{password}@127.0.0.1:{state.broker_port}/0",
        owner=state.owner,
    )


def _read_state(folder: Path) -> _State | None:
    try:
        return _State(**json.loads((folder / "services.json").read_text()))
    except FileNotFoundError:
        return None


def _write_state(folder: Path, state: _State) -> None:
    write_secret(folder / "services.json", json.dumps(asdict(state)))


def _password(folder: Path) -> str:
    file = folder / "password"
    if not file.exists():
        write_secret(file, secrets.token_urlsafe(32))
    return file.read_text()


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _storage(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"The disk of {folder} is full.", remedy="Free some space, or set AUDIT_DATA_DIR."
            ) from error
        raise Unavailable(
            f"The data folder {folder} cannot be used: {error}.",
            remedy="Give this user access to it, or set AUDIT_DATA_DIR to another folder.",
        ) from error
