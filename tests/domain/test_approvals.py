"""Decisions, exceptions and whether a report is current."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from audit_service.domain.approvals import Acceptance, AcceptanceKind, Approval, Decision, Record
from audit_service.domain.comparison import Currency, Deployment

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def approval(decision: Decision) -> Approval:
    return Approval(
        at=NOON, person="user:b", role="Validator", record=Record.REPORT, record_digest="0" * 64, decision=decision
    )


def test_only_acceptance_accepts() -> None:
    assert [decision for decision in Decision if approval(decision).accepts] == [
        Decision.ACCEPTED,
        Decision.ACCEPTED_WITH_CONDITIONS,
    ]


def test_a_decision_on_no_digest_is_refused() -> None:
    with pytest.raises(ValidationError, match="record_digest"):
        Approval(
            at=NOON,
            person="user:b",
            role="",
            record=Record.PLAN,
            record_digest="the plan",
            decision=Decision.ACCEPTED,
        )


def test_an_acceptance_ends_with_its_last_moment() -> None:
    accepted = Acceptance(
        id="RA-1", kind=AcceptanceKind.RISK, scope="raw", reason="", person="user:c", role="", at=NOON, expires=NOON
    )
    assert accepted.expired(NOON)
    assert not accepted.expired(NOON - timedelta(seconds=1))


def in_use(digest: str) -> Deployment:
    return Deployment(place="cards", version="1", digest=digest, since=NOON, person="user:operator", at=NOON)


@pytest.mark.parametrize(
    ("currency", "holds"),
    [
        (Currency(), None),
        (Currency(due=NOON + timedelta(days=1)), True),
        (Currency(due=NOON), False),
        (Currency(deployments=(in_use("a"),)), True),
        (Currency(due=NOON + timedelta(days=1), deployments=(in_use("b"),)), False),
    ],
)
def test_what_is_known_decides_whether_a_report_is_current(currency: Currency, holds: bool | None) -> None:
    assert currency.holds(at=NOON, model_digest="a") is holds
