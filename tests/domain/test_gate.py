from collections.abc import Sequence

import pytest

from audit_service.domain.drift import Change, Drift
from audit_service.domain.gate import GateOutcome, change_checks, mechanism_notes, together, verdict_checks
from audit_service.domain.results import Judgement, Result, Sentence, Verdict, VerdictValue

PASS, FAIL, UNKNOWN = GateOutcome


def judged(*values: VerdictValue, gaps: Sequence[float | None] = ()) -> Judgement:
    forms = tuple(Verdict(scope=f"form{n}", value=one, reasons=(Sentence(id="x"),)) for n, one in enumerate(values))
    rows = tuple(
        Result(key=f"raw.race.g{n}.gap_nats", value=gap, unit="nats", method="mean") for n, gap in enumerate(gaps)
    )
    whole = Verdict(scope="behavior", value=values[0], reasons=(Sentence(id="x"),))
    return Judgement(verdict=whole, forms=forms, results=rows, protocol=(), controls=())


def drifted(*changes: tuple[Change, float | None]) -> Drift:
    results, statements = [], []
    for number, (change, size) in enumerate(changes):
        key = f"drift.raw.race.g{number}"
        results += [
            Result(key=f"{key}.gap_change_nats", value=size, unit="nats", method="mean"),
            Result(key=f"{key}.gap_change_p_holm", value=0.01, unit="p", method="flips"),
        ]
        statements.append(Sentence(id=f"drift.{change}"))
    statements.append(Sentence(id="drift.sites_changed"))
    return Drift(results=tuple(results), statements=tuple(statements), output=Change.SAME, mechanism=Change.CHANGED)


@pytest.mark.parametrize(
    ("value", "outcome"),
    [("pass", PASS), ("concern", FAIL), ("fail", FAIL), ("inconclusive", UNKNOWN), ("not_measured", UNKNOWN)],
)
def test_only_a_pass_passes_and_only_what_is_shown_fails(value: str, outcome: GateOutcome) -> None:
    [check] = verdict_checks(judged(VerdictValue(value)))
    assert (check.name, check.outcome) == ("verdict.form0", outcome)


@pytest.mark.parametrize(
    ("change", "size", "gap", "outcome"),
    [
        (Change.SAME, 0.01, 0.5, PASS),
        (Change.CHANGED, 0.3, 0.5, FAIL),  # 0.2 → 0.5
        (Change.CHANGED, -0.3, 0.1, PASS),  # 0.4 → 0.1
        (Change.CHANGED, -0.3, -0.2, FAIL),  # 0.1 → -0.2: favours the other side, and by more
        (Change.CHANGED, 0.3, None, FAIL),
        (Change.UNDECIDED, 0.1, 0.1, UNKNOWN),
        (Change.NOT_MEASURED, None, None, UNKNOWN),
    ],
)
def test_a_shown_change_fails_unless_the_gap_became_smaller(
    change: Change, size: float | None, gap: float | None, outcome: GateOutcome
) -> None:
    [check] = change_checks(judged(VerdictValue.PASS, gaps=[gap]), drifted((change, size)))
    assert (check.name, check.outcome) == ("change.raw.race.g0", outcome)


def test_each_disparity_is_checked_with_its_own_statement() -> None:
    drift = drifted((Change.SAME, 0.0), (Change.CHANGED, 0.4), (Change.UNDECIDED, 0.2))
    checks = change_checks(judged(VerdictValue.PASS, gaps=[0.1, 0.5, 0.3]), drift)
    assert [check.outcome for check in checks] == [PASS, FAIL, UNKNOWN]
    assert [note.id for note in mechanism_notes(drift)] == ["drift.sites_changed"]


def test_a_failure_outweighs_what_is_unknown_and_nothing_is_unknown() -> None:
    assert together(verdict_checks(judged(VerdictValue.PASS, VerdictValue.INCONCLUSIVE, VerdictValue.FAIL))) is FAIL
    assert together(verdict_checks(judged(VerdictValue.PASS, VerdictValue.INCONCLUSIVE))) is UNKNOWN
    assert together(verdict_checks(judged(VerdictValue.PASS, VerdictValue.PASS))) is PASS
    assert together(()) is UNKNOWN
    assert [outcome.exit_code for outcome in (PASS, FAIL, UNKNOWN)] == [0, 1, 2]
