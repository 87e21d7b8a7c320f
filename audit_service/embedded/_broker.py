"""A private broker that speaks the Redis protocol and keeps its queue in an append-only file."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from audit_service.embedded._binaries import broker_binary
from audit_service.embedded.processes import Child, end_orphan, start, wait_until
from audit_service.errors import BrokerDown, StorageFull

_START_SECONDS = 30


def start_broker(data_dir: Path, *, port: int, password: str) -> Child:
    """Start the broker of this data directory on 127.0.0.1."""
    folder, log = data_dir / "broker", data_dir / "broker.log"
    folder.mkdir(mode=0o700, exist_ok=True)
    if not end_orphan(folder / "broker.pid", folder=folder):
        raise BrokerDown(f"A broker of an earlier start still works in {folder}.", remedy="End it, and start again.")
    # The configuration goes through standard input: on the command line every user could read the password.
    child = start([str(broker_binary()), "-"], log=log, stdin=_configuration(folder, port, password), cwd=folder)
    try:
        _await_ready(child, port=port, password=password)
    except BaseException:
        child.stop()
        raise
    return child


def _configuration(folder: Path, port: int, password: str) -> bytes:
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        f"pidfile {folder.name}.pid",
        "daemonize no",
        "appendonly yes",
        'save ""',
        "maxmemory-policy noeviction",
    ]
    return "\n".join(lines).encode()


def _await_ready(child: Child, *, port: int, password: str) -> None:
    with redis.Redis(host="127.0.0.1", port=port, password=password, retry=Retry(NoBackoff(), 0)) as client:

        def answers() -> bool:
            if child.failed():
                _explain(child.output(), what="The broker did not start")
            with suppress(redis.RedisError):  # not listening yet, or still reading its file
                return bool(client.ping())
            return False

        if not wait_until(answers, seconds=_START_SECONDS):
            _explain(child.output(), what=f"The broker did not answer within {_START_SECONDS} s")


def _explain(output: str, *, what: str) -> NoReturn:
    last = [line for line in output.splitlines() if line.strip()][-5:]
    if os.strerror(errno.ENOSPC) in output:
        raise StorageFull(f"{what}: the disk is full.", remedy="Free some space, or set AUDIT_DATA_DIR.", details=last)
    raise BrokerDown(f"{what}.", remedy="See what the broker said above; or set AUDIT_BROKER_URL.", details=last)
