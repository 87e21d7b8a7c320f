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


def test_a_hub_that_cannot_be_reached_says_so() -> None:
    with pytest.raises(InvalidModel, match="The hub does not give organisation/model"):
        locate("organisation/model", revision=COMMIT)
