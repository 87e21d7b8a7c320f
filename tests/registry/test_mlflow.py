"""Against a real MLflow server: fetching from it, and finding its new versions by looking."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from audit_service.errors import InvalidModel, Unavailable
from audit_service.registry import mlflow
from audit_service.registry.inspection import hashes, inspect
from audit_service.settings import get_settings
from tests.folders import free_port, open_folder
from tests.mlflow_server import mlflow_server, register
from workers.runtime import runtime
from workers.tasks.clock import poll
from workers.tasks.fetch import fetch


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with open_folder() as folder, mlflow_server(folder) as url:
        yield url


def test_a_registered_folder_arrives_whole_and_once(server: str, model_folder: Path, tmp_path: Path) -> None:
    version = register(server, "plain", model_folder)
    fetched = mlflow.fetch(server, "plain", version, models=tmp_path / "models")
    assert hashes(fetched) == hashes(model_folder)
    assert mlflow.versions(server, "plain") == [version]
    (fetched / "config.json").touch()
    assert mlflow.fetch(f"http://127.0.0.1:{free_port()}", "plain", version, models=tmp_path / "models") == fetched
    assert [path.name for path in fetched.parent.iterdir()] == [version]


def test_a_tokenizer_beside_the_model_is_put_to_it(server: str, model_folder: Path, tmp_path: Path) -> None:
    """As MLflow's transformers flavour lays it out."""
    whole = hashes(model_folder)
    logged = tmp_path / "logged"
    (logged / "components" / "tokenizer").mkdir(parents=True)
    shutil.copytree(model_folder, logged / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (logged / "model" / name).rename(logged / "components" / "tokenizer" / name)
    (logged / "MLmodel").write_text("flavors: {transformers: {}}\n")
    fetched = mlflow.fetch(server, "flavour", register(server, "flavour", logged), models=tmp_path / "models")
    assert hashes(fetched) == whole
    assert inspect(fetched, name="x", version="1", dtype="float32").layers == 2


def test_what_is_no_single_model_is_refused_and_leaves_nothing(server: str, model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "logged" / "one")
    shutil.copytree(model_folder, tmp_path / "logged" / "two")
    version = register(server, "double", tmp_path / "logged")
    with pytest.raises(InvalidModel, match="holds 2 Hugging Face folders"):
        mlflow.fetch(server, "double", version, models=tmp_path / "models")
    assert list((tmp_path / "models").rglob("*.json")) == []


def test_an_unknown_model_has_no_versions(server: str, tmp_path: Path) -> None:
    assert mlflow.versions(server, "it's unknown") == []
    with pytest.raises(Unavailable, match="does not give it"):
        mlflow.fetch(server, "unknown", "1", models=tmp_path)


@pytest.mark.parametrize("name", ["..", ".", "a/../b"])
def test_no_name_leads_out_of_the_models_folder(server: str, tmp_path: Path, name: str) -> None:
    with pytest.raises(Unavailable):
        mlflow.fetch(server, name, "1", models=tmp_path / "deep" / "models")
    assert [path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "deep" / "models")] in (
        [],
        [tmp_path / "deep"],
    )


@pytest.fixture
def _worker(api: TestClient, server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process as a worker that follows the server's registry."""
    monkeypatch.setenv("AUDIT_MLFLOW_URI", server)
    get_settings.cache_clear()
    runtime.cache_clear()
    yield
    runtime().database.close()
    runtime.cache_clear()


@pytest.mark.usefixtures("_worker")
def test_versions_that_nobody_tells_of_are_found_by_looking_and_registered_once(
    api: TestClient, server: str, model_folder: Path
) -> None:
    def imported() -> list[tuple[str, str, str]]:
        items = api.get("/v1/model-imports").json()["items"]
        return [(item["id"], item["version"], item["state"]) for item in items]

    first = register(server, "looked-at", model_folder)
    register(server, "of no interest", model_folder)
    api.post("/v1/model-imports", json={"name": "looked-at", "version": first})
    fetch(imported()[0][0])
    poll()
    assert [one[1:] for one in imported()] == [("1", "done")]

    (model_folder / "README.md").write_text("retrained")
    second = register(server, "looked-at", model_folder)
    poll()
    poll()
    assert [one[1:] for one in imported()] == [(second, "queued"), ("1", "done")]
    for _ in range(2):  # the message comes twice
        fetch(imported()[0][0])
    versions = api.get("/v1/model-versions", params={"model": "looked-at"}).json()["items"]
    assert [version["version"] for version in versions] == [second, first]
    log = api.get("/v1/events", params={"kind": "import"}).json()["items"]
    assert [(event["actor"], event["data"]["what"]) for event in log] == [
        ("user:admin@localhost", "asked"),
        ("mlflow", "registered"),
        ("mlflow:poll", "asked"),
        ("mlflow", "registered"),
    ]
