"""Images, compose file and set-up for them, as far as they can be checked without a container runtime."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from audit_service.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted(DEPLOY.glob("*.Dockerfile"))
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
GPU: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text())


def needed(requirement: str) -> set[str]:
    """The distributions that a requirement brings, itself included."""
    found: set[str] = set()
    waiting = [Requirement(requirement)]
    while waiting:
        one = waiting.pop()
        extras = one.extras or {""}
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        name = one.name.lower().replace("_", "-")
        if (known := f"{name}[{','.join(sorted(extras))}]") in found:
            continue
        found |= {known, name}
        try:
            below = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue
        for child in below:
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras):
                child.marker = None
                waiting.append(child)
    return found


ONLY = """
import sys
refused = set(sys.argv.pop(1).split(","))

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def test_the_api_needs_nothing_but_its_own_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = set.union(*map(needed, project["dependencies"])) | {"audit-service"}
    refused = sorted(
        module
        for module, owners in packages_distributions().items()
        if not allowed & {owner.lower().replace("_", "-") for owner in owners}
    )
    assert {"torch", "transformers", "weasyprint", "pytest"} <= set(refused)
    uses = """
from audit_service import dispatch
from audit_service.app import create_app
from audit_service.settings import Settings
create_app(Settings(database_url="postgresql://nobody@127.0.0.1:1/none", model_roots=("/models",))).openapi()
dispatch.celery()
from audit_service.cli import main
main()
"""
    arguments = [sys.executable, "-c", ONLY + uses, ",".join(refused), "--help"]
    answer = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
    assert "migrate" in answer.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The set-up scripts beside an environment whose Python only writes down what it is asked."""
    (tmp_path / "deploy").mkdir()
    for script in DEPLOY.glob("setup-*.sh"):
        (tmp_path / "deploy" / script.name).write_bytes(script.read_bytes())
        (tmp_path / "deploy" / script.name).chmod(0o755)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    python.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("part", "asked"),
    [
        ([], ["--requirement requirements.lock", "--no-deps --no-build-isolation --editable ."]),
        (["api"], ["--constraint requirements.lock setuptools", "--no-build-isolation --editable ."]),
        (["worker"], ["--constraint requirements.lock setuptools", "--editable .[worker,report,mlflow]"]),
    ],
)
def test_each_image_gets_its_part_of_the_locked_dependencies(checkout: Path, part: list[str], asked: list[str]) -> None:
    subprocess.run([checkout / "deploy" / "setup-python.sh", *part], check=True, capture_output=True)
    _, *installs = (checkout / "asked").read_text().splitlines()
    assert [line.endswith(end) for line, end in zip(installs, asked, strict=True)] == [True, True]
    assert all("--only-binary=:all:" in line for line in installs)


def test_an_unknown_part_is_refused(checkout: Path) -> None:
    answer = subprocess.run(
        [checkout / "deploy" / "setup-python.sh", "gpu"], check=False, capture_output=True, text=True
    )
    assert answer.returncode == 1
    assert "knows api and worker, not gpu" in answer.stderr


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_an_image_is_built_by_the_tested_scripts_and_does_not_run_as_root(file: Path) -> None:
    lines = file.read_text()
    scripts = re.findall(r"deploy/[a-z-]+\.sh", re.sub(r"^#.*$", "", lines, flags=re.MULTILINE))
    assert "deploy/setup-python.sh" in scripts
    assert all((ROOT / script).stat().st_mode & 0o111 for script in scripts)
    final = lines.rpartition("\nFROM ")[2]
    [user] = re.findall(r"^USER (\d+)$", final, re.MULTILINE)
    assert int(user) >= 1000
    assert re.search(r"^HEALTHCHECK .*healthy\.py", final, re.MULTILINE)


def test_compose_names_what_is_there() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"postgres", "redis", "operate", "migrate", "api", "beat", "tracer", "judge"}
    assert set(GPU["services"]) <= set(services)
    for service in services.values():
        if "build" in service:
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
            settings = {name.removeprefix("AUDIT_").lower() for name in service["environment"]}
            assert settings <= set(Settings.model_fields)
            assert service["cap_drop"] == ["ALL"]
    assert services["tracer"]["command"] == ["worker", "--queues", "gpu"]
    waits = {name for name, service in services.items() if "migrate" in service.get("depends_on", {})}
    assert waits == {"api", "beat", "tracer", "judge"}


def test_every_variable_that_compose_demands_is_in_the_example() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    demanded = set(re.findall(r"\$\{(\w+):\?", text))
    offered = set(re.findall(r"^(\w+)=", (DEPLOY / ".env.example").read_text(), re.MULTILINE))
    assert demanded == offered
    assert set(re.findall(r"\$\{(\w+)\}", text)) <= offered


def test_every_other_setting_can_be_given_to_all_processes_in_a_file_of_its_own() -> None:
    ours = [service for service in COMPOSE["services"].values() if "build" in service]
    assert all(service["env_file"] == [{"path": "service.env", "required": False}] for service in ours)
    offered = re.findall(r"^#AUDIT_(\w+)=", (DEPLOY / "service.env.example").read_text(), re.MULTILINE)
    assert {name.lower() for name in offered} <= set(Settings.model_fields)
    # What is set for all containers cannot be set there.
    assert not {f"AUDIT_{name}" for name in offered} & set(ours[0]["environment"])


def test_files_that_are_uploaded_lie_on_a_disk_and_not_in_memory() -> None:
    [folder] = re.findall(r"TMPDIR=(\S+)", (DEPLOY / "api.Dockerfile").read_text())
    api = COMPOSE["services"]["api"]
    assert folder not in api["tmpfs"]
    [volume] = [place.partition(":")[0] for place in api["volumes"] if place.endswith(f":{folder}")]
    assert volume in COMPOSE["volumes"]


def test_what_a_worker_imports_lies_at_the_same_path_for_all_and_is_its_own() -> None:
    places = {name: service.get("volumes", []) for name, service in COMPOSE["services"].items()}
    folder = "/var/lib/audit-service/models"
    assert f"imported:{folder}" in places["judge"]
    assert f"imported:{folder}:ro" in places["api"]
    for file in DOCKERFILES:
        assert re.search(rf"install --directory --owner audit .* {folder}$", file.read_text(), re.MULTILINE)
