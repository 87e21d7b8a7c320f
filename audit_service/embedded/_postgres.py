"""A private Postgres: made once, started and stopped with its owner."""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import platformdirs
import psycopg
from psycopg import sql

from audit_service.embedded._binaries import postgres_bin
from audit_service.embedded._identity import Identity
from audit_service.embedded.processes import Child, end_orphan, start, wait_until
from audit_service.errors import DatabaseDown, StorageFull

USER = DATABASE = "audit"
_START_SECONDS = 60
_FAST_SHUTDOWN = signal.SIGINT
"""On SIGTERM PostgreSQL would wait until every client has left."""


def start_postgres(data_dir: Path, *, port: int, password: str, identity: Identity) -> Child:
    """Start the Postgres of this data directory on 127.0.0.1, making its cluster on the first call."""
    home = _home(data_dir, identity)
    cluster, log = home / "postgres", data_dir / "postgres.log"
    binaries = _reachable(postgres_bin(_major(cluster)), home, identity)
    if _major(cluster) is None:
        _initialise(cluster, binaries=binaries, password=password, identity=identity)
    identity.own(cluster)
    if not end_orphan(cluster / "postmaster.pid", folder=cluster, stop_signal=_FAST_SHUTDOWN):
        raise DatabaseDown(
            f"A PostgreSQL of an earlier start still works in {cluster}.", remedy="End it, and start again."
        )
    command = _command(cluster, binaries=binaries, port=port, identity=identity)
    child = start(command, log=log, stop_signal=_FAST_SHUTDOWN, **_options(identity))
    try:
        _await_ready(child, port=port, password=password)
        _make_database(port=port, password=password)
    except psycopg.errors.DiskFull as error:
        child.stop()
        _explain(str(error), what="The database could not be made")
    except BaseException:
        child.stop()
        raise
    return child


def _home(data_dir: Path, identity: Identity) -> Path:
    """The data directory itself, unless another user must work in it and cannot come in (root's home is closed)."""
    if identity.can_enter(data_dir):
        return data_dir
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    home = platformdirs.site_state_path("audit-service") / name
    home.mkdir(mode=0o711, parents=True, exist_ok=True)
    return home


def _reachable(binaries: Path, home: Path, identity: Identity) -> Path:
    """The programs where they lie, or a copy of them where that place is closed to the identity."""
    if identity.can_enter(binaries):
        return binaries
    tree = binaries.parent
    copy = home / "programs" / tree.parent.name / tree.name
    if not copy.exists():
        # The wheel's libraries lie beside the package and are found by a relative path.
        libraries = tree.parent.with_name(f"{tree.parent.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, home / "programs" / libraries.name, dirs_exist_ok=True)
        partial = copy.with_name(f"{copy.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(tree, partial)
        partial.rename(copy)
    return copy / binaries.name


def _initialise(cluster: Path, *, binaries: Path, password: str, identity: Identity) -> None:
    """Make the cluster under another name, so that a half-made one is never taken for a whole one."""
    partial = cluster.with_name("postgres.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    password_file = cluster.with_name("postgres.password")
    password_file.unlink(missing_ok=True)
    try:
        password_file.touch(mode=0o600)
        password_file.write_text(password)
        identity.own(partial)
        identity.own(password_file)
        answer = subprocess.run(  # noqa: S603
            [*identity.prefix, binaries / "initdb", "--pgdata", partial, "--username", USER, "--pwfile", password_file,
             "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **_options(identity),
        )  # fmt: skip
        if answer.returncode != 0:
            shutil.rmtree(partial, ignore_errors=True)
            _explain(answer.stderr, what="The database could not be made")
        partial.rename(cluster)
    finally:
        password_file.unlink(missing_ok=True)


def _command(cluster: Path, *, binaries: Path, port: int, identity: Identity) -> list[str]:
    settings = {
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "timezone": "UTC",
        "max_connections": "200",
    }
    flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [*identity.prefix, str(binaries / "postgres"), "-D", str(cluster), *flags]


def _options(identity: Identity) -> dict[str, Any]:
    """English messages, since we look for "No space left" in them, and no folder that the identity cannot enter."""
    return {"cwd": "/", "env": {"PATH": os.defpath, "LC_ALL": "C"}, **identity.popen_options()}


def _await_ready(child: Child, *, port: int, password: str) -> None:
    def answers() -> bool:
        if child.failed():
            _explain(child.output(), what="The database did not start")
        with suppress(psycopg.OperationalError):
            _connect(port, password, "postgres").close()
            return True
        return False

    if not wait_until(answers, seconds=_START_SECONDS):
        _explain(child.output(), what=f"The database did not answer within {_START_SECONDS} s")


def _make_database(*, port: int, password: str) -> None:
    with _connect(port, password, "postgres") as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
        if known is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _connect(port: int, password: str, database: str) -> psycopg.Connection:
    return psycopg.connect(
        host="127.0.0.1", port=port, user=USER, password=password, dbname=database, autocommit=True, connect_timeout=5
    )


def _major(cluster: Path) -> int | None:
    version = cluster / "PG_VERSION"
    return int(version.read_text()) if version.exists() else None


def _explain(output: str, *, what: str) -> NoReturn:
    """Translate what Postgres printed."""
    last = [line for line in output.splitlines() if line.strip()][-5:]
    if os.strerror(errno.ENOSPC) in output:
        raise StorageFull(f"{what}: the disk is full.", remedy="Free some space, or set AUDIT_DATA_DIR.", details=last)
    raise DatabaseDown(f"{what}.", remedy="See what PostgreSQL said above; or set AUDIT_DATABASE_URL.", details=last)
