"""Processes of one machine, as far as they can be looked at without starting them all."""

from pathlib import Path

import pytest

from audit_service import processes
from audit_service.errors import InvalidInput
from audit_service.settings import Settings


def test_no_administrator_is_made_where_the_token_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Settings(data_dir=tmp_path / "file" / "data", database_url="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(InvalidInput, match="cannot be written"):
        processes.serve(settings, say=print)
