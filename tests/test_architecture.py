"""The import rules of docs/architecture.md: workers → audit_service → audit_service.domain, torch in workers only."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
TORCH = {"torch", "transformers", "accelerate", "gguf"}
DOMAIN = {"audit_service.domain", "audit_service.errors", "numpy", "scipy", "statsmodels", "pydantic",
          "safetensors.numpy", "yaml", "cronsim", "os.path.commonprefix"}  # fmt: skip
"""Besides these the standard library: what computes and parses, nothing that reaches outside the process."""
BELOW_TABLES = {"audit_service.domain", "audit_service.db.base", "audit_service.db.tables"}
IO = {"asyncio", "http", "multiprocessing", "os", "pathlib", "shutil", "socket", "sqlite3", "subprocess",
      "tempfile", "threading", "urllib"}  # fmt: skip


class Import(NamedTuple):
    file: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def imports(root: Path, package: str) -> Iterator[Import]:
    """Every import statement of a package, those inside functions too, with relative ones resolved."""
    for path in sorted((root / package).rglob("*.py")):
        file = path.relative_to(root)
        parents = file.with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (Import(file, node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = ".".join([*parents[: len(parents) - node.level]] if node.level else [])
                module = ".".join(part for part in (base, node.module or "") if part)
                yield from (Import(file, node.lineno, f"{module}.{alias.name}") for alias in node.names)


def within(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def breaches(root: Path) -> list[str]:
    """Each import that goes against the direction."""
    service, domain = list(imports(root, "audit_service")), list(imports(root, "audit_service/domain"))
    allowed = DOMAIN | (set(sys.stdlib_module_names) - IO)
    return [
        *(f"{found}: torch belongs in workers" for found in service if within(found.module, TORCH)),
        *(f"{found}: the service does not know its workers" for found in service if within(found.module, {"workers"})),
        *(f"{found}: the domain is pure" for found in domain if not within(found.module, allowed)),
        *(f"{found}: tables stand on the domain alone" for found in imports(root, "audit_service/db/tables")
          if within(found.module, {"audit_service"}) and not within(found.module, BELOW_TABLES)),
        *(f"{found}: the engine knows no queue and no database" for found in imports(root, "workers/engine")
          if within(found.module, {"celery", "sqlalchemy", "audit_service.db", "audit_service.dispatch"})),
    ]  # fmt: skip


def test_every_import_points_the_right_way() -> None:
    assert breaches(ROOT) == []


@pytest.mark.parametrize(
    ("file", "statement", "reason"),
    [
        ("audit_service/app.py", "import torch", "torch belongs in workers"),
        ("audit_service/app.py", "def late():\n    from transformers.utils import logging", "torch belongs in workers"),
        ("audit_service/cli.py", "from workers.engine import loading", "does not know its workers"),
        ("audit_service/audits/service.py", "from ...workers import app", "does not know its workers"),
        ("audit_service/domain/plan.py", "import sqlalchemy", "the domain is pure"),
        ("audit_service/domain/plan.py", "from pathlib import Path", "the domain is pure"),
        ("audit_service/domain/plan.py", "from audit_service.db import base", "the domain is pure"),
        ("audit_service/domain/plan.py", "from safetensors.torch import save", "the domain is pure"),
        ("audit_service/domain/plan.py", "from ..db import base", "the domain is pure"),
        ("audit_service/db/tables/runs.py", "from audit_service.identity import tokens", "on the domain alone"),
        ("workers/engine/loading.py", "import celery", "no queue and no database"),
    ],
)
def test_a_planted_breach_is_found(tmp_path: Path, file: str, statement: str, reason: str) -> None:
    planted = tmp_path / file
    planted.parent.mkdir(parents=True)
    planted.write_text(statement + "\n")
    (breach,) = breaches(tmp_path)
    assert reason in breach
    assert breach.startswith(file)


def test_what_is_allowed_is_not_called_a_breach(tmp_path: Path) -> None:
    domain = tmp_path / "audit_service" / "domain" / "sites.py"
    domain.parent.mkdir(parents=True)
    domain.write_text("import numpy as np\nimport safetensors.numpy\nfrom audit_service.domain.plan import Plan\n")
    engine = tmp_path / "workers" / "engine" / "loading.py"
    engine.parent.mkdir(parents=True)
    engine.write_text("import torch\nfrom audit_service.errors import InvalidModel\n")
    assert breaches(tmp_path) == []


@pytest.mark.parametrize("module", ["audit_service.app", "audit_service.cli", "audit_service.domain"])
def test_the_service_starts_without_torch(module: str) -> None:
    script = f"import sys, {module}; print([name for name in {sorted(TORCH)} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
