"""The examples for pipelines are valid for the services that read them, and call what exists."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from audit_service.cli import app
from tests.examples import EXAMPLES

FILES = {
    "vendor.github-workflows": EXAMPLES / "ci/github-actions.yml",
    "vendor.gitlab-ci": EXAMPLES / "ci/gitlab-ci.yml",
}


@pytest.mark.parametrize(("schema", "file"), FILES.items())
def test_an_example_keeps_the_services_schema(schema: str, file: Path) -> None:
    """The schemas come with check-jsonschema, so nothing is fetched."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("file", FILES.values())
def test_an_example_asks_for_options_that_exist(file: Path) -> None:
    help_text = CliRunner().invoke(app, ["gate", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    calls = [line for line in _strings(yaml.safe_load(file.read_text())) if "audit-service gate" in line]
    assert calls
    for call in calls:
        options = [word for word in shlex.split(re.split(r"[>|]", call)[0]) if word.startswith("--")]
        assert options
        assert all(option in help_text for option in options), options


@pytest.mark.parametrize("file", FILES.values())
def test_an_example_sets_up_from_the_repository_and_from_no_index(file: Path) -> None:
    """The project's name on an index may be anybody's."""
    lines = [line for text in _strings(yaml.safe_load(file.read_text())) for line in text.splitlines()]
    assert not [line for line in lines if "pip install" in line]
    calls = [match for line in lines if (match := re.search(r"(deploy/setup-[a-z]+\.sh) (\w+)", line))]
    assert calls
    for script, part in (call.groups() for call in calls):
        assert f"    {script} {part} " in (EXAMPLES.parent / script).read_text()


def _strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in _strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in _strings(part)]
    return [str(value)]
