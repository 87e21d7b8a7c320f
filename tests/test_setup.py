"""The set-up: what is locked, and what a user is told who may not install."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
LOCKED = re.compile(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; .+)?")


def stub(folder: Path, name: str, script: str) -> None:
    """A program that stands before the machine's own on PATH."""
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def setup(script: str, *part: str, first_on_path: Path, python: str = "python3") -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{first_on_path}{os.pathsep}{os.environ['PATH']}", "PYTHON": python}
    command = [ROOT / "deploy" / script, *part]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def bare_debian(tmp_path: Path) -> Path:
    """A machine with nothing but Python, whose user is not root and may not become it."""
    stub(tmp_path, "uname", "echo Linux")
    stub(tmp_path, "id", "echo 1000")
    stub(tmp_path, "sudo", "exit 1")
    stub(tmp_path, "apt-get", f"touch {tmp_path}/installed")
    stub(tmp_path, "find", "exit 0")  # no font
    stub(tmp_path, "python3", 'case "$2" in *"(3, 11)"*) ;; *-venv*) echo python3.13-venv ;; *) exit 1 ;; esac')
    return tmp_path


def test_what_is_missing_is_named_in_one_line_with_the_command(bare_debian: Path) -> None:
    answer = setup("setup-system.sh", first_on_path=bare_debian)
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    packages = "python3.13-venv libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-noto-cjk softhsm2"
    assert f"sudo apt-get install --yes {packages} && make setup" in line
    assert not (bare_debian / "installed").exists()


def test_a_worker_does_without_what_only_tests_need(bare_debian: Path) -> None:
    (line,) = setup("setup-system.sh", "worker", first_on_path=bare_debian).stderr.splitlines()
    assert "softhsm2" not in line
    assert line.endswith("fonts-noto-cjk && deploy/setup-python.sh worker")


def test_a_part_that_is_not_known_installs_nothing(bare_debian: Path) -> None:
    answer = setup("setup-system.sh", "gpu", first_on_path=bare_debian)
    assert answer.returncode == 1
    assert "knows worker, not gpu" in answer.stderr
    assert not (bare_debian / "installed").exists()


def test_who_may_become_root_gets_it_installed(bare_debian: Path) -> None:
    stub(bare_debian, "sudo", 'shift; exec "$@"')
    answer = setup("setup-system.sh", first_on_path=bare_debian)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert (bare_debian / "installed").exists()


def test_where_nothing_is_missing_nothing_is_installed(bare_debian: Path) -> None:
    stub(bare_debian, "python3", "exit 0")
    stub(bare_debian, "find", "echo NotoSansCJK-Regular.ttc")
    answer = setup("setup-system.sh", first_on_path=bare_debian)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    assert not (bare_debian / "installed").exists()


def test_an_old_python_is_refused_in_one_line(tmp_path: Path) -> None:
    stub(tmp_path, "old-python", "exit 1")
    answer = setup("setup-find-python.sh", first_on_path=tmp_path, python="old-python")
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert "Python 3.11 or newer" in line
    assert "old-python" in line


def test_the_lock_holds_exact_versions_from_any_index() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert [line for line in lines if not LOCKED.fullmatch(line)] == []
    assert "torch==2.13.0" in lines


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    locked = {line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}
    names = {re.split(r"[\[>=<; ]", requirement)[0].lower() for requirement in wanted}
    assert names - locked == set()


def test_make_help_tells_the_two_commands_of_the_readme() -> None:
    answer = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for command in ("demo", "test"):
        assert f"make {command} " in answer.stdout
        assert f"make {command} " in (ROOT / "README.md").read_text()


def test_a_wheel_holds_everything_that_the_program_reads(tmp_path: Path) -> None:
    """Whoever installs without a checkout has the migrations and the report's templates too."""
    folders = ("audit_service", "workers", "migrations", "report_templates")
    source = tmp_path / "source"
    for folder in folders:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, source)
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *offline, str(source)], check=True)
    [wheel] = tmp_path.glob("audit_service-*.whl")
    held = set(ZipFile(wheel).namelist())
    wanted = {file.relative_to(source).as_posix() for folder in folders for file in (source / folder).rglob("*.*")}
    assert {name for name in wanted if (source / name).is_file()} - held == set()
