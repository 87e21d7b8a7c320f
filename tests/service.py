"""The running API: in the process for most tests, behind a real server for streams and the client."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from audit_service import dispatch
from audit_service.app import create_app
from audit_service.client import Client
from audit_service.db.handles import Database
from audit_service.identity import bootstrap
from audit_service.identity.bootstrap import FIRST_ORGANISATION
from audit_service.logs import configure
from audit_service.settings import get_settings
from tests.examples import loan_denial


@pytest.fixture
def _surroundings(database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AUDIT_DATABASE_URL", database_url)
    monkeypatch.setenv("AUDIT_BROKER_URL", broker_url)
    monkeypatch.setenv("AUDIT_MODEL_ROOTS", '["/"]')
    get_settings.cache_clear()
    dispatch.celery.cache_clear()
    configure(as_json=False)  # as every process does first; else requests are told on standard output
    yield
    dispatch.celery().close()
    dispatch.celery.cache_clear()


@pytest.fixture
def app(_surroundings: None) -> Iterator[FastAPI]:
    app = create_app()
    yield app
    app.state.database.close()


@pytest.fixture
def token(app: FastAPI) -> str:
    """The administrator's of the first organisation."""
    made = bootstrap.first_administrator(app.state.database)
    assert made is not None
    return made.text


@pytest.fixture
def api(app: FastAPI, token: str) -> Iterator[TestClient]:
    """The API as the administrator sees it."""
    with TestClient(app, raise_server_exceptions=False, headers=bearer(token)) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def database(app: FastAPI) -> Database:
    """The database as the first organisation sees it."""
    handle: Database = app.state.database
    return handle.acting_for(FIRST_ORGANISATION)


@pytest.fixture
def url(app: FastAPI) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def client(url: str, token: str) -> Iterator[Client]:
    with Client(url, token=token) as client:
        yield client


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A folder with all that a model needs to be registered: two layers, three heads, 40 parameters."""
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "num_attention_heads": 3}
    (folder / "config.json").write_text(json.dumps(config))
    words = {"?": 0, " Yes": 1, "Yes": 2, " yes": 3, "yes": 4, " No": 5, "No": 6, " no": 7, "no": 8}
    Tokenizer(WordLevel(words, unk_token="?")).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    tensors = {"embed": np.zeros((5, 4), np.float32), "head": np.zeros((4, 5), np.float32)}
    save_file(tensors, folder / "model.safetensors")
    return folder


class Audit:
    """The steps of an audit up to its run, by plain HTTP; each is taken when it is first asked for."""

    def __init__(self, api: TestClient, folder: Path) -> None:
        self._api, self._folder = api, folder

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._api.post(f"/v1/{path}", json=body)
        assert answer.status_code in {200, 201}, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def model(self, version: str = "1") -> dict[str, Any]:
        return self.create("model-versions", {"name": "tiny", "version": version, "path": str(self._folder)})

    def behavior(self, **changes: Any) -> dict[str, Any]:
        return self.create("behavior-versions", loan_denial().behavior.model_dump(mode="json") | changes)

    def pair_set(self) -> dict[str, Any]:
        return self.create("pair-sets", {"behavior_version_id": self.behavior()["id"]})

    def plan(self, **judging: Any) -> dict[str, Any]:
        parts = {
            "model_version_id": self.model()["id"],
            "behavior_version_id": self.behavior()["id"],
            "pair_set_id": self.pair_set()["id"],
        }
        return self.create("plans", {**parts, "judging": {"delta_nats": 0.1} | judging})

    def run(self) -> dict[str, Any]:
        return self.create("runs", {"plan_id": self.plan()["id"]})


@pytest.fixture
def audit(api: TestClient, model_folder: Path) -> Audit:
    return Audit(api, model_folder)
