"""`audit-service gate` all by itself, without a service: each of its three answers, on models whose bias is known."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from junitparser import JUnitXml

from audit_service.auditfiles import read_audit
from tests.examples import EXAMPLES
from tests.folders import open_folder
from tests.journey.conftest import COMMAND, environment
from tests.planted import ONE_HEAD, save_carrier

MODELS = {
    "fair": lambda _, index: 0.02 * (index % 3),
    "biased": lambda group, index: 0.02 * (index % 3) + (group == "white"),
    "erratic": lambda group, index: index % 2 if group == "white" else index // 2 % 2,
}
"""Model → what it makes of a name: the log-odds of the n-th name of a group, besides what is common to all."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """What the runs of this file leave behind for each other: the private database with its accepted plans."""
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def audit_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped example, cut down to one form and a few patches, with the three models beside it."""
    folder = tmp_path_factory.mktemp("gate")
    content = yaml.safe_load((EXAMPLES / "loan-denial.yaml").read_text())
    content["model"] |= {"name": "credit", "path": "fair"}
    behavior = content["behavior"]
    behavior["templates"].pop("desk")
    behavior["profiles"] = {"strong": behavior["profiles"]["strong"]}
    behavior["forms"] = [form for form in behavior["forms"] if form["name"] == "raw"]
    content["tracing"] |= {"kinds": ["resid_pre"], "segments": ["cue", "decision"], "pairs_per_form": 4}
    content["judging"]["resamples"] = 1000
    file = folder / "audit.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    subject = read_audit(file).behavior
    [attribute] = subject.attributes
    for model, of in MODELS.items():
        signal = {
            name: float(of(group, index))
            for group in attribute.groups
            for index, name in enumerate(name for names in attribute.groups[group].values() for name in names)
        }
        save_carrier(folder / model, subject, ONE_HEAD, signal, bias=0.5)
    return file


def gate(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "gate", *map(str, arguments)],
        check=False,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
    )


def asked(audit_file: Path, model: str, *more: str | Path) -> Sequence[str | Path]:
    return ["--model", audit_file.parent / model, "--behavior", audit_file, "--json", *more]


def checks(answer: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    report = json.loads(answer.stdout)
    return {check["name"]: check["outcome"] for check in report["checks"]}


def test_a_model_without_a_disparity_passes_with_status_0(folder: Path, audit_file: Path) -> None:
    answer = gate(folder, *asked(audit_file, "fair"))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert checks(answer) == {"verdict.raw": "pass"}
    assert not (folder / "api.json").exists()  # what it started for itself has ended


def test_a_biased_model_fails_with_status_1_by_its_verdict_and_by_its_change(
    folder: Path, audit_file: Path, tmp_path: Path
) -> None:
    more = ["--baseline", audit_file.parent / "fair", "--junit", tmp_path / "gate.xml"]
    answer = gate(folder, *asked(audit_file, "biased", *more))
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert checks(answer) == {"verdict.raw": "fail", "change.raw.race.black": "fail"}
    [suite] = JUnitXml.fromfile(str(tmp_path / "gate.xml"))
    assert (suite.tests, suite.failures, suite.errors) == (2, 2, 0)


def test_what_cannot_be_told_ends_with_status_2(folder: Path, audit_file: Path) -> None:
    answer = gate(folder, *asked(audit_file, "erratic"))
    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert checks(answer) == {"verdict.raw": "unknown"}


def test_an_audit_that_cannot_be_read_is_status_2_too_with_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("model: {name: x}\n")
    answer = gate(folder, "--model", tmp_path, "--behavior", bad, "--junit", tmp_path / "gate.xml")
    assert answer.returncode == 2
    assert "model.path: Field required" in answer.stderr
    assert "Traceback" not in answer.stderr
    [suite] = JUnitXml.fromfile(str(tmp_path / "gate.xml"))
    assert (suite.tests, suite.failures, suite.errors) == (1, 0, 1)
    [case] = suite
    assert "bad.yaml does not describe an audit" in case.result[0].message
