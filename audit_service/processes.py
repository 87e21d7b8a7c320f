"""The processes of one machine: the API, a worker, and the database and broker that both need."""

import ipaddress
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import TypeVar

import httpx
import psutil
import uvicorn

from audit_service import dispatch, embedded
from audit_service.client import Client
from audit_service.db.migrating import assert_current, migrate
from audit_service.embedded.processes import Child, start, wait_until
from audit_service.errors import Conflict, InvalidInput, Unavailable
from audit_service.files import write_secret
from audit_service.settings import Settings, get_settings

A = TypeVar("A")

START_SECONDS = 60
LINES_SAID = 5
"""Of the log of a process that does not start."""
RESTART_SECONDS = 2.0
"""Between looks at the children, so that a broken one does not spin."""


@contextmanager
def surroundings() -> Iterator[Settings]:
    """Settings that name a database and a broker which are there, the database up to date.

    What is embedded is migrated; a database of the user's own is only checked, since others may depend on it.
    """
    given = get_settings()
    with embedded.services(given) as found:
        if given.database_url is None:
            migrate(found.database_url)
        else:
            assert_current(found.database_url)
        # Child processes, the queue and the database handles all read these.
        os.environ |= {"AUDIT_DATABASE_URL": found.database_url, "AUDIT_BROKER_URL": found.broker_url}
        if given.database_url is None and _is_loopback(given.host) and not given.model_roots:
            os.environ["AUDIT_MODEL_ROOTS"] = '["/"]'  # a private service: its user reads no more than before
        get_settings.cache_clear()
        dispatch.celery.cache_clear()
        yield get_settings()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def beat() -> None:
    """Send the clock's ticks to the queue until interrupted. One is enough; a second one does no harm."""
    # Nothing is remembered between two starts: a tick asks the workers to look at the tables, which know it all.
    options = ["--scheduler", "celery.beat:Scheduler", "--pidfile", "", "--loglevel", "warning"]
    dispatch.celery().start(["beat", *options])


def serve(settings: Settings, *, say: Callable[[str], None]) -> None:
    """Answer HTTP until interrupted; others on this machine find the address through a file.

    The first start makes an administrator, whose token the commands of this data directory find there.
    """
    # The API's imports take a second that the other commands need not wait for.
    from audit_service.app import create_app  # noqa: PLC0415
    from audit_service.identity import bootstrap  # noqa: PLC0415

    # The first administrator's token is shown there alone: it must not be made where it cannot be kept.
    _writable(settings.data_dir)
    app = create_app()
    if made := bootstrap.first_administrator(app.state.database):
        keep_token(settings, made.text)
        say(f"This is the first start: the token of the administrator {bootstrap.FIRST_EMAIL} lies in")
        say(f"{_token_file(settings)}; commands on this data directory find it there.")
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
    config.host, config.port = settings.host, settings.port
    try:
        listening = config.bind_socket()
    except SystemExit as error:  # uvicorn's answer to a port in use
        raise Conflict(
            f"Port {settings.port} on {settings.host} is in use.", remedy="Set AUDIT_PORT to another, or to 0 for any."
        ) from error
    url = f"http://{settings.host}:{listening.getsockname()[1]}"
    file = _address_file(settings)
    file.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    say(f"audit-service answers at {url} (documentation: {url}/docs)")
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        file.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the API of this machine answers."""

    url: str
    pid: int
    token: str | None = field(default=None, repr=False)
    """The administrator's, if the data directory holds it."""


def running(settings: Settings) -> Address | None:
    """The API that runs on this data directory, if one does and answers."""
    try:
        address = Address(**json.loads(_address_file(settings).read_text()), token=kept_token(settings))
        alive = psutil.pid_exists(address.pid) and httpx.get(f"{address.url}/healthz", timeout=5).is_success
    except (FileNotFoundError, json.JSONDecodeError, TypeError, httpx.TransportError):
        return None
    return address if alive else None


def connect(settings: Settings) -> Client | None:
    """A client of the service that the settings name, or else of the one that runs on this data directory."""
    if settings.api_url:
        return Client(settings.api_url)  # the token of this machine is nobody else's business
    address = running(settings)
    return None if address is None else Client(address.url, token=address.token)


def connected(settings: Settings) -> Client:
    """A client of the service that is named or running; Conflict if there is none."""
    if (client := connect(settings)) is None:
        raise Conflict("No service is running.", remedy="Start `audit-service up`, or set AUDIT_API_URL.")
    return client


@contextmanager
def everything(settings: Settings, *, port: int | None = None) -> Iterator["Machine"]:
    """API, worker and clock as child processes, until the block is left. ``settings`` come from ``surroundings``.

    ``port`` is where the API listens if not where the settings say; 0 takes any that is free.
    """
    machine = Machine(settings, port=settings.port if port is None else port)
    leaving = Event()
    keeper = Thread(target=machine.keep_running, args=[leaving], name="keeper", daemon=True)
    try:
        machine.start()
        keeper.start()
        yield machine
    finally:
        leaving.set()
        if keeper.is_alive():
            keeper.join()
        machine.stop()


class Machine:
    """The API, the worker and the clock of one user on one machine."""

    def __init__(self, settings: Settings, *, port: int) -> None:
        self._settings = settings
        self._environment = os.environ | {"AUDIT_PORT": str(port)}
        self._children: dict[str, Child] = {}
        self.address: Address
        """Where the API answers, once it does."""

    def start(self) -> None:
        """Start them and wait until API and worker answer.

        Raises:
            Unavailable: one does not come up; its log says why.
        """
        for name in COMMANDS:
            self._start(name)
        self.address = self._await("api", lambda: running(self._settings))
        self._await("worker", lambda: dispatch.celery().control.ping(timeout=0.5))

    def client(self) -> Client:
        return Client(self.address.url, token=self.address.token)

    def stop(self) -> None:
        """End them, the API last, so that what is still saved is seen."""
        for name in reversed(COMMANDS):
            if child := self._children.pop(name, None):
                child.stop()

    def keep_running(self, leaving: Event) -> None:
        """Start again what has died, until told to leave; a worker may be killed at any time without loss."""
        while not leaving.wait(RESTART_SECONDS):
            for name, child in list(self._children.items()):
                if child.failed():
                    self._start(name)

    def log(self, name: str) -> Path:
        return self._settings.data_dir / f"{name}.log"

    def _start(self, name: str) -> None:
        self._settings.data_dir.mkdir(parents=True, exist_ok=True)
        # -P: what lies in the present directory must not stand in for what is installed.
        command = [sys.executable, "-P", "-m", "audit_service", COMMANDS[name]]
        self._children[name] = start(command, log=self.log(name), env=self._environment)

    def _await(self, name: str, ask: Callable[[], A | None]) -> A:
        """The child's first answer that says anything."""
        answer: A | None = None

        def settled() -> bool:
            nonlocal answer
            return self._children[name].failed() or bool(answer := ask())

        wait_until(settled, seconds=START_SECONDS)
        if not answer or self._children[name].failed():
            said = self._children[name].output().strip().splitlines()[-LINES_SAID:]
            raise Unavailable(f"The {name} does not start.", remedy=f"{self.log(name)} says more.", details=said)
        return answer


COMMANDS = {"api": "serve", "worker": "worker", "beat": "beat"}


def keep_token(settings: Settings, token: str) -> None:
    """Write the administrator's token where this user's commands find it and nobody else does."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    write_secret(_token_file(settings), token)


def kept_token(settings: Settings) -> str | None:
    """The token that is set, or else the administrator's of the data directory, if it holds one."""
    if settings.token is not None:
        return settings.token.get_secret_value()
    try:
        return _token_file(settings).read_text().strip()
    except FileNotFoundError:
        return None


def _writable(folder: Path) -> None:
    """The folder is there and takes files, or InvalidInput."""
    with suppress(OSError):  # what it cannot make is not there, which the next line finds
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidInput(f"{folder} cannot be written.", remedy="Set AUDIT_DATA_DIR to a folder that can.")


def _token_file(settings: Settings) -> Path:
    return settings.data_dir / "token"


def _address_file(settings: Settings) -> Path:
    return settings.data_dir / "api.json"
