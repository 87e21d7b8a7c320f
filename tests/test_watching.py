import shutil
from pathlib import Path

import pytest

from audit_service.client import Client
from audit_service.errors import InvalidInput
from audit_service.registry.schemas import Dtype
from audit_service.watching import Watch


def look(watch: Watch, now: float) -> list[str]:
    return [line.split(": ")[0].splitlines()[0] for line in watch.look(now)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "models"
    (root / "credit").mkdir(parents=True)
    return root


@pytest.fixture
def watched(client: Client, root: Path) -> Watch:
    return Watch(client, root, dtype=Dtype.FLOAT32, settle_s=10)


def test_a_version_is_registered_once_it_is_still(
    client: Client, watched: Watch, root: Path, model_folder: Path
) -> None:
    shutil.copytree(model_folder, root / "credit" / "1")
    assert look(watched, 0) == []
    assert look(watched, 9) == []
    assert look(watched, 10) == ["credit 1 is registered"]
    assert look(watched, 99) == []
    [version] = client.model_versions(model="credit")
    assert (version.version, version.path) == ("1", str(root / "credit" / "1"))


def test_a_copy_that_goes_on_is_waited_for(client: Client, watched: Watch, root: Path, model_folder: Path) -> None:
    folder = root / "credit" / "1"
    folder.mkdir()
    for now, file in enumerate(sorted(model_folder.iterdir())):
        shutil.copy(file, folder)
        assert look(watched, now * 9) == []
    assert list(client.model_versions(model="credit")) == []


def test_a_half_copied_version_is_refused_and_taken_when_it_is_whole(
    client: Client, watched: Watch, root: Path, model_folder: Path
) -> None:
    folder = root / "credit" / "1"
    shutil.copytree(model_folder, folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2 + 40])
    assert [*look(watched, 0), *look(watched, 10), *look(watched, 50)] == ["credit 1 is not registered"]
    assert list(client.model_versions(model="credit")) == []
    (folder / "model.safetensors").write_bytes(weights)
    assert [*look(watched, 60), *look(watched, 70)] == ["credit 1 is registered"]


def test_files_that_change_under_a_label_are_refused(
    client: Client, watched: Watch, root: Path, model_folder: Path
) -> None:
    shutil.copytree(model_folder, root / "credit" / "1")
    assert [*look(watched, 0), *look(watched, 10)] == ["credit 1 is registered"]
    (root / "credit" / "1" / "README.md").write_text("changed")
    assert [*look(watched, 20), *look(watched, 30)] == ["credit 1 is not registered"]
    assert len(list(client.model_versions(model="credit"))) == 1


def test_empty_and_hidden_folders_are_passed_over(watched: Watch, root: Path, model_folder: Path) -> None:
    (root / "credit" / "2").mkdir()
    shutil.copytree(model_folder, root / "credit" / ".3.partial")
    shutil.copytree(model_folder, root / ".trash" / "4")
    (root / "notes.txt").write_text("x")
    assert [*look(watched, 0), *look(watched, 10)] == []


def test_another_watcher_registers_nothing_twice(client: Client, root: Path, model_folder: Path) -> None:
    shutil.copytree(model_folder, root / "credit" / "1")
    for _ in range(2):
        watch = Watch(client, root, dtype=Dtype.FLOAT32, settle_s=0)
        assert look(watch, 0) == ["credit 1 is registered"]
    assert len(list(client.model_versions(model="credit"))) == 1


def test_a_folder_that_is_not_there_is_refused(client: Client, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no folder"):
        Watch(client, tmp_path / "none", dtype=Dtype.FLOAT32, settle_s=0)
