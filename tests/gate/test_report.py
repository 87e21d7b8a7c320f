import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from junitparser import Error, Failure, JUnitXml

from audit_service.domain.gate import Check, GateOutcome
from audit_service.domain.results import Sentence, VerdictValue
from audit_service.gate.report import GateReport, junit

BEGAN = datetime(2026, 11, 21, 10, tzinfo=UTC)


def made(reason: str = "raw") -> GateReport:
    said = (Sentence(id="drift.not_measured", values={"form": reason, "group": '<black> & "x"'}),)
    names = {GateOutcome.PASS: "change.raw", GateOutcome.FAIL: "verdict.raw", GateOutcome.UNKNOWN: "verdict.chat"}
    checks = tuple(Check(name=name, outcome=outcome, reasons=said) for outcome, name in names.items())
    return GateReport(
        outcome=GateOutcome.FAIL,
        model="credit",
        version="2",
        model_digest="a" * 64,
        behavior="loan-denial",
        plan="b" * 64,
        run="c",
        verdict=VerdictValue.FAIL,
        baseline_version="1",
        baseline_run="d",
        checks=checks,
        notes=said,
        started_at=BEGAN,
        ended_at=BEGAN + timedelta(seconds=90),
    )


def test_junit_says_what_failed_and_what_cannot_be_told(tmp_path: Path) -> None:
    file = tmp_path / "gate.xml"
    file.write_bytes(junit(made()))
    [suite] = JUnitXml.fromfile(str(file))
    assert (suite.tests, suite.failures, suite.errors, suite.skipped, suite.time) == (3, 1, 1, 0, 90)
    passed, failed, unknown = suite
    assert (passed.name, passed.result) == ("change.raw", [])
    assert isinstance(failed.result[0], Failure)
    assert isinstance(unknown.result[0], Error)
    assert failed.result[0].message == 'raw, <black> & "x": no pair was measured in both runs.'
    assert {one.name: one.value for one in suite.properties()}["baseline_version"] == "1"
    assert b"<system-out>FAIL: loan-denial on credit 2, compared with 1" in file.read_bytes()


def test_text_that_xml_cannot_hold_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "gate.xml"
    file.write_bytes(junit(made("ra\x00w\x0b\ufffe貸款")))
    [suite] = JUnitXml.fromfile(str(file))
    assert next(case for case in suite if case.result).result[0].message.startswith("raw貸款, <black>")


def test_a_screen_holds_the_answer() -> None:
    lines = list(made().lines())
    assert len(lines) < 25
    assert lines[0] == "FAIL: loan-denial on credit 2, compared with 1"
    assert [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "] == [
        "pass",
        "FAIL",
        "cannot",
        "note",
    ]


def test_json_gives_back_the_same_report() -> None:
    assert GateReport.model_validate_json(made().model_dump_json()) == made()
    assert json.loads(made().model_dump_json())["outcome"] == "fail"


@pytest.mark.parametrize("outcome", GateOutcome)
def test_the_first_word_is_the_outcome(outcome: GateOutcome) -> None:
    said = next(made().model_copy(update={"outcome": outcome}).lines())
    assert said.startswith({"pass": "PASS:", "fail": "FAIL:", "unknown": "CANNOT TELL:"}[outcome])
