"""The whole service on this machine, as `audit-service up` starts it, and a small audit for it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from audit_service.client import Client
from audit_service.embedded.processes import start, wait_until
from audit_service.processes import running
from audit_service.settings import Settings
from tests.examples import EXAMPLES, loan_denial
from tests.folders import open_folder
from tests.tiny_model import save_tiny_model

LEASE_S = 3
COMMAND = [sys.executable, "-P", "-m", "audit_service"]


@dataclass(frozen=True)
class Machine:
    """A running `audit-service up`."""

    process: psutil.Process
    data_dir: Path
    client: Client

    def worker(self) -> psutil.Process:
        """The worker's main process, as it is now."""
        [worker] = [child for child in self.process.children() if "worker" in child.cmdline()]
        return worker


def environment(data_dir: Path) -> dict[str, str]:
    return os.environ | {"AUDIT_DATA_DIR": str(data_dir), "AUDIT_PORT": "0", "AUDIT_SHARD_LEASE_S": str(LEASE_S)}


@contextmanager
def up(data_dir: Path, **settings: str) -> Iterator[Machine]:
    """``settings`` are further environment variables."""
    log = data_dir / "up.log"
    started = start([*COMMAND, "up"], log=log, env=environment(data_dir) | settings)
    try:
        assert wait_until(lambda: "Ctrl-C" in started.output() or started.failed(), seconds=120)
        address = running(Settings(data_dir=data_dir))
        assert address is not None, started.output()
        with Client(address.url, token=address.token) as client:
            yield Machine(psutil.Process(started.process.pid), data_dir, client)
    finally:
        started.stop()


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with open_folder() as folder, up(folder) as machine:
        yield machine


@pytest.fixture(scope="session")
def audit_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped example on a tiny model, cut down to what a test can wait for."""
    folder = tmp_path_factory.mktemp("audit")
    content = yaml.safe_load((EXAMPLES / "loan-denial.yaml").read_text())
    behavior, tracing = content["behavior"], content["tracing"]
    save_tiny_model(folder / "model", loan_denial().behavior, layers=6)
    content["model"] |= {"name": "tiny", "path": "model"}
    behavior["templates"].pop("desk")
    behavior["profiles"] = {"strong": behavior["profiles"]["strong"]}
    behavior["min_coverage"] = 0.0001  # a random model spreads its probability over all words
    tracing |= {"pairs_per_form": 6, "placebo_pairs_per_form": 2}
    content["judging"]["resamples"] = 1000
    file = folder / "audit.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file
