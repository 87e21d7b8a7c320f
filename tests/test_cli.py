"""Commands as a user types them."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit_service import linting
from audit_service.cli import app
from audit_service.domain import calibration
from audit_service.domain.calibration import World
from tests.examples import EXAMPLES

RUNNER = CliRunner()


def test_lint_shows_each_rule_with_level_sentence_and_remedy_and_what_the_design_detects() -> None:
    done = RUNNER.invoke(app, ["lint", str(EXAMPLES / "loan-denial.yaml")])
    assert done.exit_code == 0
    assert "P003 note: Not evaluated yet" in done.output
    assert "P016 note: Form raw: clusters share cues" in done.output
    assert "  → Read the interval by cue pairs" in done.output
    assert "black: with these 36 names (18 independent cue pairs)" in done.output


def test_lint_fails_on_an_error(tmp_path: Path) -> None:
    text = (EXAMPLES / "loan-denial.yaml").read_text().replace("delta_nats: 0.1", "delta_nats: 0.9")
    (tmp_path / "audit.yaml").write_text(text)
    done = RUNNER.invoke(app, ["lint", str(tmp_path / "audit.yaml")])
    assert done.exit_code == 1
    assert "P013 error: The equivalence margin" in done.output
    assert linting.lint_file(tmp_path / "audit.yaml").is_broken


@pytest.fixture
def one_world(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(12, unequal=True, gap=0.3)
    whole = calibration.calibrate
    monkeypatch.setattr(calibration, "calibrate", lambda **options: whole(worlds=[world], **options))


@pytest.mark.usefixtures("one_world")
def test_calibrate_prints_each_rate_and_passes() -> None:
    done = RUNNER.invoke(app, ["calibrate", "--audits", "100"])
    assert done.exit_code == 0, done.output
    assert "12 unequal clusters, gap 0.3: interval of the mean gap" in done.output
    assert "All within what is allowed." in done.output


@pytest.mark.usefixtures("one_world")
def test_calibrate_fails_where_a_rate_lies_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = calibration.calibrate
    wrong = [replace(found, rate=0.5) for found in whole(audits=20)][:1]
    monkeypatch.setattr(calibration, "calibrate", lambda **_: iter(wrong))
    done = RUNNER.invoke(app, ["calibrate", "--audits", "20"])
    assert done.exit_code == 1
    assert "FAIL" in done.output


def test_a_gate_that_breaks_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr("audit_service.gate.running.gate_into", broken)
    done = RUNNER.invoke(app, ["gate", "--model", "m", "--behavior", "b"])
    assert done.exit_code == 2
    assert "a mistake of ours" in done.stderr
