"""Model versions of an MLflow registry as folders that can be registered here. Needs the extra ``mlflow``."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

from audit_service.errors import Conflict, InvalidModel, Unavailable
from audit_service.registry.inspection import TOKENIZERS


def fetch(uri: str, name: str, version: str, *, models: Path) -> Path:
    """The folder of the version, downloaded once: ``models``/name/version. It is whole or not there.

    Credentials are MLflow's own (MLFLOW_TRACKING_TOKEN and the like, and those of the artefact store).

    Raises:
        Unavailable: the registry does not give it; ask again later.
        InvalidModel: it holds no Hugging Face folder, or more than one.
    """
    folder = models / _file_name(name) / _file_name(version)
    if folder.exists():
        return folder
    scratch = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with _mlflow(uri) as mlflow:
            mlflow.artifacts.download_artifacts(f"models:/{name}/{version}", dst_path=str(scratch))
        model = _model_folder(scratch, f"{name} {version}")
        _add_tokenizer(model, scratch / "components" / "tokenizer")
        model.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def versions(uri: str, name: str) -> list[str]:
    """The versions of the registered model of that name that are ready, the oldest first; none if it is unknown.

    Raises Unavailable.
    """
    quoted = name.replace("'", "\\'")
    with _mlflow(uri) as mlflow:
        found = mlflow.MlflowClient().search_model_versions(f"name = '{quoted}'")
    ready = [entry.version for entry in found if entry.status == "READY"]
    return sorted(map(str, ready), key=lambda version: (len(version), version))


def _file_name(name: str) -> str:
    """One part of a path, whatever the name holds."""
    quoted = quote(name, safe=" ")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


@contextmanager
def _mlflow(uri: str) -> Iterator[ModuleType]:
    """MLflow, told where the registry is; its errors become ours."""
    try:
        import mlflow  # noqa: PLC0415 - an extra, and slow to import
        import mlflow.artifacts  # noqa: PLC0415
    except ImportError as error:
        raise Conflict(
            "MLflow's client is not installed.", remedy="Install the worker with the extra: audit-service[mlflow]."
        ) from error
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield mlflow
    except (mlflow.MlflowException, OSError) as error:  # requests' errors are OSErrors
        raise Unavailable(
            f"The MLflow registry at {uri} does not give it: {error}",
            remedy="Check AUDIT_MLFLOW_URI, the model's name and version, and the credentials of its artefact store.",
        ) from error


def _model_folder(root: Path, what: str) -> Path:
    """The one folder with a configuration and safetensors; MLflow's flavours put it in different places."""
    found = sorted(file.parent for file in root.rglob("config.json") if any(file.parent.glob("*.safetensors")))
    if len(found) != 1:
        raise InvalidModel(
            f"{what} in MLflow holds {len(found)} Hugging Face folders with safetensors; one is needed.",
            remedy="Log the model with mlflow.transformers, or log the folder that save_pretrained wrote.",
            details=[str(folder.relative_to(root)) for folder in found],
        )
    return found[0]


def _add_tokenizer(model: Path, beside: Path) -> None:
    """MLflow's transformers flavour keeps the tokenizer beside the model; here they are one artefact."""
    if beside.is_dir() and not any((model / name).is_file() for name in TOKENIZERS):
        for file in sorted(beside.iterdir()):
            if file.is_file() and not (model / file.name).exists():
                shutil.copy2(file, model / file.name)
