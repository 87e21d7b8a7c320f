from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit_service.cli import app
from audit_service.domain.auditfile import parse_audit_file
from audit_service.errors import Conflict, NotFound
from audit_service.library.catalogue import entry


def call(*arguments: str) -> str:
    answer = CliRunner().invoke(app, ["library", *arguments], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_every_behavior_is_listed_with_both_titles() -> None:
    listed = call("list")
    assert "loan-denial-postal-code" in listed
    assert "因年齡而異的貸款拒絕" in listed


def test_a_datasheet_says_what_the_words_rest_on_and_where_they_end() -> None:
    shown = " ".join(call("show", "loan-denial-race-names").split())
    assert "Bertrand and Mullainathan (2004)" in shown
    assert "A first name also signals age" in shown
    assert "Looked up: All 36 names" in shown
    assert "Not looked up." in call("show", "loan-denial-marital-status")
    assert "Washington 87.53" in call("show", "mortgage-denial-race")


def test_a_copy_is_an_audit_file_of_its_own_and_nothing_is_written_over(tmp_path: Path) -> None:
    target = tmp_path / "mine.yaml"
    call("copy", "loan-denial-age", "--to", str(target))
    assert parse_audit_file(target.read_text(), name="mine").behavior == entry("loan-denial-age").audit.behavior
    with pytest.raises(Conflict, match="there already"):
        call("copy", "loan-denial-age", "--to", str(target))


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(NotFound, match="loan-denial-age"):
        call("show", "loan-denial-height")
