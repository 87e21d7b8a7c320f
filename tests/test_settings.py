"""What the environment may say, and how it is told off."""

from pathlib import Path

import pytest

from audit_service.errors import InvalidInput
from audit_service.settings import get_settings


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_a_postgres_url_names_the_driver(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_DATABASE_URL", f"{scheme}://user:secret@host:5432/name")
    assert get_settings().database_url == "postgresql+psycopg://user:secret@host:5432/name"


def test_an_empty_variable_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_BROKER_URL", "")
    assert get_settings().broker_url is None


def test_folders_are_absolute_and_know_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_CACHE_DIR", "~/models")
    assert get_settings().cache_dir == Path.home() / "models"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AUDIT_DATABASE_URL", "sqlite:///secret.db"),
        ("AUDIT_DATABASE_URL", "secret"),
        ("AUDIT_BROKER_URL", "amqp://user:secret@host"),
        ("AUDIT_PORT", "secret"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidInput, match=variable) as refused:
        get_settings()
    assert "secret" not in str(refused.value)


def test_urls_with_passwords_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_DATABASE_URL", "postgresql://user:hunter2@host/name")
    monkeypatch.setenv("AUDIT_BROKER_URL", "redis://:hunter2@host/0")
    assert "hunter2" not in repr(get_settings())
