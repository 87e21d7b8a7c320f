"""How long the upload of 100,000 pairs takes, and how much memory the API's process takes for it.

Run with: python -m tests.benchmarks.upload_speed [--pairs 100000] [--format jsonl]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from audit_service.db.handles import Database
from audit_service.db.migrating import migrate
from audit_service.domain.pairfiles import PairRow
from audit_service.domain.pairreaders import PairFormat
from audit_service.embedded import services
from audit_service.identity import bootstrap
from audit_service.settings import Settings
from tests.folders import free_port, open_folder

FILLER = "The applicant has worked for the same employer for seven years and asks for a loan of 12,000 dollars. " * 5
PIECE = 1 << 20


def lines(pairs: int, file_format: PairFormat) -> Iterator[str]:
    """A file of the format; JSON Lines hold whole pairs as the service gives them out."""
    if file_format is PairFormat.CSV:
        yield "attribute,reference_group,comparison_group,reference_prompt,comparison_prompt\n"
    for number in range(pairs):
        prompts = (f"{FILLER}Case {number}: {name} applies. Approve?" for name in ("Emily", "Lakisha"))
        cells = ("race", "white", "black", *prompts)
        if file_format is PairFormat.CSV:
            yield ",".join(f'"{cell}"' for cell in cells) + "\n"
        else:
            row = PairRow.model_validate(dict(zip(PairRow.model_fields, cells, strict=False)))
            yield json.dumps(row.pair(number).model_dump(mode="json")) + "\n"


class Api:
    """A process that answers, on a database of its own."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, token: str) -> None:
        self.process = process
        self.client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=600)

    def resident_at_most(self) -> float:
        """MiB, as Linux tells it; getrusage would count those of the process which started this one."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        told = dict(line.split(":", 1) for line in status.splitlines())
        return int(told["VmHWM"].split()[0]) / 1024


@contextmanager
def api() -> Iterator[Api]:
    with open_folder() as folder, services(Settings(data_dir=folder)) as endpoints:
        migrate(endpoints.database_url)
        database = Database(endpoints.database_url)
        made = bootstrap.first_administrator(database)
        database.close()
        assert made is not None
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "--factory", "audit_service.app:create_app", "--port", str(port)]
        surroundings = {"AUDIT_DATABASE_URL": endpoints.database_url, "AUDIT_BROKER_URL": endpoints.broker_url}
        surroundings["AUDIT_MODEL_ROOTS"] = '["/"]'
        with subprocess.Popen([*command, "--log-level", "warning"], env=os.environ | surroundings) as process:
            try:
                yield Api(process, f"http://127.0.0.1:{port}", made.text)
            finally:
                process.terminate()


def wait_for(client: httpx.Client) -> None:
    while True:
        try:
            client.get("/healthz")
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return


def pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while some := file.read(PIECE):
            yield some


def main() -> None:
    """Print seconds and memory for one file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--format", type=PairFormat, choices=list(PairFormat), default=PairFormat.JSONL)
    asked = parser.parse_args()
    with TemporaryDirectory() as folder, api() as service:
        path = Path(folder) / f"pairs.{asked.format}"
        with path.open("w") as file:
            file.writelines(lines(asked.pairs, asked.format))
        wait_for(service.client)
        query = {"name": "many", "format": asked.format.value}
        began = time.perf_counter()
        answer = service.client.post("/v1/pair-sets/upload", params=query, content=pieces(path))
        seconds = time.perf_counter() - began
        assert answer.status_code == 201, answer.text
        assert answer.json()["count"] == asked.pairs
        sys.stdout.write(
            f"{asked.pairs} pairs, {path.stat().st_size / 2**20:.0f} MiB of {asked.format}: {seconds:.1f} s;"
            f" the API's process took {service.resident_at_most():.0f} MiB at most\n"
        )


if __name__ == "__main__":
    main()
