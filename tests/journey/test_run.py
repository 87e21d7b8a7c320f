"""`audit-service run FILE`: from one file to the evidence."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from pypdf import PdfReader

from audit_service.domain.lifecycle import RunState
from audit_service.embedded.processes import wait_until
from audit_service.processes import running
from audit_service.settings import Settings
from tests.examples import EXAMPLES, loan_denial
from tests.folders import open_folder
from tests.journey.conftest import COMMAND, Machine, environment
from tests.tiny_model import save_tiny_model


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command(folder, "run", *arguments)


def plan(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command(folder, "plan", *arguments)


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        check=False,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


class TestAlone:
    """No service is running: the command starts what it needs and ends it."""

    def test_an_interrupted_run_goes_on_with_the_same_command(self, folder: Path, audit_file: Path) -> None:
        arguments = [*COMMAND, "run", str(audit_file), "--out", str(folder / "evidence")]
        with subprocess.Popen(
            arguments, env=environment(folder), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as first:
            assert first.stderr is not None
            for line in first.stderr:
                if "tracing" in line:
                    break
            first.send_signal(signal.SIGINT)
            said = first.communicate(timeout=60)[1]
        assert first.returncode == 130
        assert "is paused" in said

        second = run(folder, str(audit_file), "--out", str(folder / "evidence"), "--json")
        assert second.returncode == 0, second.stderr
        assert "going on with it" in second.stderr
        summary = json.loads(second.stdout)
        assert summary["state"] == RunState.COMPLETED
        [pdf] = (folder / "evidence").iterdir()
        assert summary["report"] == str(pdf)
        assert pdf.read_bytes().startswith(b"%PDF")
        assert not (folder / "api.json").exists()

    def test_a_bad_file_is_refused_before_anything_is_started(self, folder: Path) -> None:
        bad = folder / "bad.yaml"
        bad.write_text("model: {name: x}\n")
        answer = run(folder, str(bad))
        assert answer.returncode == 1
        assert "model.path: Field required" in answer.stderr
        assert "Traceback" not in answer.stderr
        assert not (folder / "postgres").exists()

    def test_leaving_a_run_to_no_service_is_refused(self, folder: Path, audit_file: Path) -> None:
        answer = run(folder, str(audit_file), "--detach")
        assert answer.returncode == 1
        assert "audit-service up" in answer.stderr


class TestWithAService:
    def test_the_health_check_of_its_container_finds_the_worker(self, machine: Machine) -> None:
        script = Path(__file__).parents[2] / "deploy" / "healthy.py"
        answer = subprocess.run([sys.executable, script, "worker"], check=False, env=machine.worker().environ())
        assert answer.returncode == 0

    def test_a_detached_run_is_left_to_the_service(self, machine: Machine, audit_file: Path) -> None:
        answer = run(machine.data_dir, str(audit_file), "--detach", "--json")
        assert answer.returncode == 0, answer.stderr
        run_id = json.loads(answer.stdout)["run"]
        assert wait_until(lambda: machine.client.run(run_id).state is RunState.COMPLETED, seconds=120)

    def test_a_budget_is_shown_without_computing_effects_and_then_kept(
        self, machine: Machine, audit_file: Path
    ) -> None:
        whole = plan(machine.data_dir, str(audit_file), "--json")
        assert whole.returncode == 0, whole.stderr
        [shown] = json.loads(whole.stdout)
        coarse, *_, all_of_it = [offer["price"]["minutes"] for offer in shown["offers"]]
        assert 0 < coarse < all_of_it
        assert shown["offers"][0]["cost"]["counted"] is True
        halfway = plan(machine.data_dir, str(audit_file), str(audit_file), "--minutes", str(2 * coarse))
        assert halfway.returncode == 0, halfway.stderr
        assert "yes" in halfway.stdout
        assert "budget: {forward_equivalents:" in halfway.stdout
        narrow = audit_file.with_name("narrow.yaml")
        passes = shown["offers"][0]["price"]["forward_equivalents"]
        narrow.write_text(f"{audit_file.read_text()}budget: {{forward_equivalents: {passes}}}\n")
        started = run(machine.data_dir, str(narrow), "--detach", "--json")
        assert "The budget leaves out: attn_out, mlp_out: every layer" in started.stderr
        detail = machine.client.run(json.loads(started.stdout)["run"])
        fixed = machine.client.plan(detail.plan_id).content
        assert fixed.scope is not None
        assert len(fixed.scope.left_out) == len(shown["offers"]) - 1
        assert wait_until(lambda: machine.client.run(detail.id).state is RunState.COMPLETED, seconds=120)
        nothing = plan(machine.data_dir, str(audit_file), "--minutes", "0")
        assert "A budget is a positive number" in nothing.stderr

    def test_every_number_of_the_verdict_page_is_a_row(self, machine: Machine, audit_file: Path) -> None:
        answer = run(machine.data_dir, str(audit_file), "--json")
        assert answer.returncode == 0, answer.stderr
        run_id = json.loads(answer.stdout)["run"]
        rows = {result.key: result for result in machine.client.results(run_id)}
        text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(machine.client.report(run_id))).pages)
        gap = rows["raw.race.black.gap_nats"]
        assert gap.value is not None
        assert f"{gap.value:+.3f}".replace("-", "−") in text
        assert machine.client.run(run_id).plan_digest[:16] in text.replace("\n", "")


class TestNotebook:
    """The shipped notebook runs in a kernel of its own, against the running service."""

    @pytest.fixture
    def notebook(self) -> NotebookNode:
        return nbformat.read(EXAMPLES / "audit.ipynb", as_version=4)

    def test_it_is_shipped_without_outputs(self, notebook: NotebookNode) -> None:
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(not cell.outputs and cell.execution_count is None for cell in code)

    def test_it_runs_from_top_to_bottom(self, notebook: NotebookNode, machine: Machine, tmp_path: Path) -> None:
        address = running(Settings(data_dir=machine.data_dir))
        assert address is not None
        model = save_tiny_model(tmp_path / "tiny-notebook", loan_denial().behavior)
        [place] = [n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
        parameters = [
            "from pathlib import Path",
            f"URL = {address.url!r}",
            f"MODEL = Path({str(model)!r})",
            "MIN_COVERAGE = 0.0001  # a random model spreads its probability over all words",
        ]
        notebook.cells.insert(place + 1, nbformat.v4.new_code_cell("\n".join(parameters)))
        kernel = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
        kernel.execute(env=os.environ | {"AUDIT_DATA_DIR": str(machine.data_dir)})
        [pdf] = tmp_path.glob("evidence-*.pdf")
        assert pdf.read_bytes().startswith(b"%PDF")
        [states] = notebook.cells[-2].outputs
        assert "COMPLETED" in states.data["text/plain"]
