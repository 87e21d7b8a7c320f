"""What a run says to a pipeline: pass, fail, or cannot tell. Unknown never counts as good."""

from collections.abc import Iterator, Sequence
from enum import StrEnum

from audit_service.domain.drift import Change, Drift
from audit_service.domain.manifest import Frozen
from audit_service.domain.results import Judgement, Sentence, VerdictValue

_CHANGES = {f"drift.{change}": change for change in Change}
"""Statement on one disparity → what is shown of it."""


class GateOutcome(StrEnum):
    PASS = "pass"  # noqa: S105 - an outcome, not a secret
    FAIL = "fail"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        return list(GateOutcome).index(self)


class Check(Frozen):
    """One thing that must hold."""

    name: str
    outcome: GateOutcome
    reasons: tuple[Sentence, ...]


def verdict_checks(judgement: Judgement) -> tuple[Check, ...]:
    """One for each form: a concern is shown, so it fails like a fail; what is not shown either way is unknown."""
    outcomes = {
        VerdictValue.PASS: GateOutcome.PASS,
        VerdictValue.CONCERN: GateOutcome.FAIL,
        VerdictValue.FAIL: GateOutcome.FAIL,
    }
    return tuple(
        Check(name=f"verdict.{form.scope}", outcome=outcomes.get(form.value, GateOutcome.UNKNOWN), reasons=form.reasons)
        for form in judgement.forms
    )


def change_checks(judgement: Judgement, drift: Drift) -> tuple[Check, ...]:
    """One for each disparity that both versions have: a change that is shown fails unless the gap became smaller."""
    values = {result.key: result.value for result in judgement.results}
    changes = [result for result in drift.results if result.key.endswith(".gap_change_nats")]
    said = [statement for statement in drift.statements if statement.id in _CHANGES]
    checks = []
    for result, statement in zip(changes, said, strict=True):
        contrast = result.key.removeprefix("drift.").removesuffix(".gap_change_nats")
        grown = _grown(values.get(f"{contrast}.gap_nats"), result.value)
        outcome = _outcome(_CHANGES[statement.id], grown=grown)
        checks.append(Check(name=f"change.{contrast}", outcome=outcome, reasons=(statement,)))
    return tuple(checks)


def _outcome(change: Change, *, grown: bool) -> GateOutcome:
    if change is Change.SAME:
        return GateOutcome.PASS
    if change is Change.CHANGED:
        return GateOutcome.FAIL if grown else GateOutcome.PASS
    return GateOutcome.UNKNOWN


def _grown(gap: float | None, change: float | None) -> bool:
    """Whether the gap is further from none than before; unknown counts as yes."""
    return gap is None or change is None or abs(gap) > abs(gap - change)


def mechanism_notes(drift: Drift) -> Iterator[Sentence]:
    """What is to be read, and decides nothing: the same output from another mechanism is no breach by itself."""
    return (statement for statement in drift.statements if statement.id not in _CHANGES)


def together(checks: Sequence[Check]) -> GateOutcome:
    """Any failure fails; otherwise anything unknown, and nothing at all, is unknown."""
    outcomes = {check.outcome for check in checks}
    if GateOutcome.FAIL in outcomes:
        return GateOutcome.FAIL
    return GateOutcome.PASS if outcomes == {GateOutcome.PASS} else GateOutcome.UNKNOWN
