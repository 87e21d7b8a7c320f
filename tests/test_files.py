from collections.abc import Iterator
from pathlib import Path

import pytest

from audit_service.errors import InvalidInput, StorageFull
from audit_service.files import write_whole


def test_a_file_replaces_the_one_before_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.pdf"
    write_whole(target, b"one")
    write_whole(target, b"two")
    assert target.read_bytes() == b"two"
    assert list(target.parent.iterdir()) == [target]


def test_content_in_pieces_that_fails_midway_leaves_nothing(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"one"
        raise InvalidInput("cut short", remedy="again")

    with pytest.raises(InvalidInput, match="cut short"):
        write_whole(tmp_path / "bundle.zip", pieces())
    assert list(tmp_path.iterdir()) == []


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot be written"):
        write_whole(tmp_path / "file" / "report.pdf", b"x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full is Linux's")
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / ".report.pdf.part").symlink_to("/dev/full")
    with pytest.raises(StorageFull, match=r"report\.pdf"):
        write_whole(tmp_path / "report.pdf", b"x")
    assert list(tmp_path.iterdir()) == []
