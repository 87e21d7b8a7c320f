from pathlib import Path

import pytest

from audit_service.errors import InvalidInput, InvalidModel
from audit_service.registry.sources import locate

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_an_absolute_path_is_a_folder(tmp_path: Path) -> None:
    found = locate(str(tmp_path), revision=None)
    assert (found.folder, found.hub_name, found.hub_revision) == (tmp_path.resolve(), None, None)


@pytest.mark.parametrize("path", ["model", "./a/b", "a/b/c", "../b", "a b/c", ""])
def test_what_is_neither_a_path_nor_a_hub_name_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match="neither an absolute path nor a hub name"):
        locate(path, revision=COMMIT)


@pytest.mark.parametrize("revision", [None, "main", "v1.0", COMMIT[:7], COMMIT.upper()])
def test_a_hub_name_needs_a_commit_because_branches_move(revision: str | None) -> None:
    with pytest.raises(InvalidInput, match="a branch or tag can move"):
        locate("organisation/model", revision=revision)


def test_with_roots_only_what_lies_in_one_of_them_is_looked_at(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for folder in (mine / "credit", theirs / "credit", tmp_path / "mine-too"):
        folder.mkdir(parents=True)
    assert locate(str(mine / "credit"), revision=None, roots=[tmp_path / "none", mine]).folder == mine / "credit"
    for path in (theirs / "credit", mine / ".." / "theirs" / "credit", tmp_path / "mine-too", tmp_path / "not there"):
        with pytest.raises(InvalidInput, match="does not lie where models are registered from"):
            locate(str(path), revision=None, roots=[mine])


def test_with_roots_no_link_leads_out_of_them(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    (theirs / "weights").mkdir(parents=True)
    (mine / "credit").mkdir(parents=True)
    (mine / "linked").symlink_to(theirs)
    (mine / "credit" / "model.safetensors").symlink_to(theirs / "weights")
    for name in ("linked", "credit"):
        with pytest.raises(InvalidInput, match="does not lie where models are registered from"):
            locate(str(mine / name), revision=None, roots=[mine])


def test_a_hub_that_cannot_be_reached_says_so() -> None:
    with pytest.raises(InvalidModel, match="The hub does not give organisation/model"):
        locate("organisation/model", revision=COMMIT)
