"""What an auditor does with a run's evidence: fetch the bundle, verify it, repeat a sample of it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit_service.domain.behaviors import Behavior
from tests.examples import loan_denial
from tests.folders import open_folder
from tests.journey.conftest import COMMAND, environment
from tests.tiny_model import save_tiny_model


def ran(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        check=False,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
    )


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def bundle(folder: Path, audit_file: Path) -> Path:
    """The bundle of a real run, with the model beside the audit file."""
    summary = json.loads(ran(folder, "run", str(audit_file), "--json").stdout)
    made = ran(folder, "bundle", summary["run"], "--out", "run.zip")
    assert made.returncode == 0, made.stderr
    return folder / "run.zip"


def test_the_bundle_of_a_run_holds(folder: Path, bundle: Path) -> None:
    checked = ran(folder, "verify", str(bundle))
    assert checked.returncode == 0, checked.stdout
    assert "whole and consistent" in checked.stdout


def test_a_sample_of_it_can_be_repeated_on_another_machine(folder: Path, bundle: Path, audit_file: Path) -> None:
    again = ran(folder, "reperform", str(bundle), "--model", str(audit_file.parent / "model"), "--sample", "3")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("agrees: ") >= 5  # decisions of three pairs, effects of one in both directions
    assert "DOES NOT" not in again.stdout


def test_another_model_is_refused(folder: Path, bundle: Path, tmp_path: Path) -> None:
    behavior: Behavior = loan_denial().behavior
    other = save_tiny_model(tmp_path / "other", behavior, seed=1, layers=6)
    again = ran(folder, "reperform", str(bundle), "--model", str(other), "--sample", "1")
    assert again.returncode != 0
    assert "not those that were registered" in again.stderr


def test_a_changed_byte_is_found(folder: Path, bundle: Path) -> None:
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    changed = folder / "changed.zip"
    changed.write_bytes(data)
    checked = ran(folder, "verify", str(changed))
    assert checked.returncode == 1
    assert "DOES NOT HOLD" in checked.stdout


def test_verifying_needs_neither_torch_nor_settings() -> None:
    program = "import sys, workers.rendering.verifying; print('torch' in sys.modules, 'sqlalchemy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], check=True, capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.stdout.split() == ["False", "False"]
