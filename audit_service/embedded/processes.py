"""Child processes that end with their parent, however it ends."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_WATCH = 'read -r _; kill -"$1" "$2"'
_STOP_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Child:
    """A running server and the watchdog that ends it when this process is gone."""

    process: subprocess.Popen[bytes]
    watchdog: subprocess.Popen[bytes]
    log: Path
    log_start: int
    """Length of the log before this start."""
    stop_signal: signal.Signals

    def stop(self) -> None:
        """Ask for a clean shutdown, wait for it, and only then insist."""
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._dismiss()

    def failed(self) -> bool:
        """Whether it has ended on its own."""
        ended = self.process.poll() is not None
        if ended:
            self._dismiss()
        return ended

    def output(self) -> str:
        """What it has printed since it was started."""
        return self.log.read_bytes()[self.log_start :].decode(errors="replace")

    def _dismiss(self) -> None:
        """End the watchdog too: the system may give the process's number to somebody else now."""
        self.watchdog.kill()
        self.watchdog.communicate()


def start(
    command: list[str],
    *,
    log: Path,
    stdin: bytes = b"",
    stop_signal: signal.Signals = signal.SIGTERM,
    **options: Any,  # noqa: ANN401 - Popen's own
) -> Child:
    """Start a server in a session of its own, so that Ctrl-C in the terminal reaches us first."""
    with log.open("ab") as output:
        log_start = output.tell()
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True, **options
        )
    child = Child(process, _watch(process.pid, stop_signal), log, log_start, stop_signal)
    assert process.stdin is not None  # noqa: S101 - asked for above
    try:
        process.stdin.write(stdin)
        process.stdin.close()
    except BrokenPipeError:  # it has failed already; the caller sees that
        process.stdin = None
    return child


def _watch(pid: int, stop_signal: signal.Signals) -> subprocess.Popen[bytes]:
    """A shell that waits for our end of its input to close, which the kernel does even after SIGKILL.

    A parent-death signal of the kernel would be Linux only, is lost when the child changes its user, and comes when
    the starting thread ends, which need not be the end of the process.
    """
    watchdog = subprocess.Popen(  # noqa: S603
        ["/bin/sh", "-c", _WATCH, "audit-service-watchdog", str(stop_signal.value), str(pid)],
        stdin=subprocess.PIPE,
        bufsize=0,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    assert watchdog.stdin is not None  # noqa: S101 - asked for above
    # A forked worker would otherwise hold our end open beyond our death.
    os.register_at_fork(after_in_child=watchdog.stdin.close)
    return watchdog


def wait_until(ready: Callable[[], bool], *, seconds: float) -> bool:
    """Ask again and again; False when the time is over."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def end_orphan(pid_file: Path, *, folder: Path, stop_signal: signal.Signals = signal.SIGTERM) -> bool:
    """End a server that outlived its parent in this folder; False when it will not go.

    A pid file left by a crash may name another program by now: only a process that works in the folder is ours.
    """
    try:
        process = psutil.Process(int(pid_file.read_text().split()[0]))
        if Path(process.cwd()) == folder.resolve():
            process.send_signal(stop_signal)
            process.wait(_STOP_SECONDS)
    except psutil.TimeoutExpired:
        return False
    except (FileNotFoundError, ValueError, IndexError, psutil.NoSuchProcess, psutil.AccessDenied):
        pass  # no file, a file cut short, or nobody of ours behind it
    pid_file.unlink(missing_ok=True)
    return True


def free_port(preferred: int | None) -> int:
    """The preferred port if it is free, so that who knew the server before finds it again; else any free one."""
    for port in (preferred or 0, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")
