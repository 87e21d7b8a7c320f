"""A real MLflow server on this machine, and models in its registry."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import mlflow
from cryptography.fernet import Fernet

from audit_service.embedded.processes import start, wait_until
from tests.folders import free_port

SECONDS = 90
"""Its first start makes its database and imports much."""


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """The server's address; its webhooks may go to this machine, and by plain HTTP."""
    port = free_port()
    environment = os.environ | {
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    child = start([*command, *stores, "--workers", "1"], log=folder / "mlflow.log", env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        assert wait_until(lambda: child.failed() or _answers(url), seconds=SECONDS), child.output()
        assert not child.failed(), child.output()
        yield url
    finally:
        child.stop()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=1).is_success
    except httpx.TransportError:
        return False


def registry(url: str) -> mlflow.MlflowClient:
    """A client of this server alone: unless told, MLflow asks the registry that the process used last."""
    return mlflow.MlflowClient(url, registry_uri=url)


def register(url: str, name: str, folder: Path, *, layout: str = "model") -> str:
    """Log the folder as an MLflow model's files and register them as the next version; the version."""
    mlflow.set_tracking_uri(url)
    client = registry(url)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    experiment = client.get_experiment_by_name("audit")
    experiment_id = experiment.experiment_id if experiment else client.create_experiment("audit")
    run = client.create_run(experiment_id)
    client.log_artifacts(run.info.run_id, str(folder), layout)
    made = client.create_model_version(name, f"{run.info.artifact_uri}/{layout}", run.info.run_id)
    return str(made.version)
