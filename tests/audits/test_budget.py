"""A budget picks the scope of a plan before anything is computed, and the plan says what it left out."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from audit_service.db.handles import Database
from audit_service.db.tables import CalibrationRow
from audit_service.domain.plan import Plan, Tracing
from audit_service.domain.sites import SiteKind
from tests.audits.test_plans import parts
from tests.domain.test_forecast import MACHINE
from tests.service import Audit


def offers(api: TestClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = api.post("/v1/plans/offers", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def calibrated(database: Database, audit: Audit, *, seconds_per_row: float) -> None:
    content = MACHINE.model_copy(update={"seconds_per_row": seconds_per_row})
    with database.writing() as session:
        session.add(
            CalibrationRow(
                model_version_id=audit.model()["id"], device="cpu", dtype="float32", threads=1, content=content
            )
        )


def test_scopes_are_offered_from_coarse_to_fine_and_nothing_is_stored(api: TestClient, audit: Audit) -> None:
    found = offers(api, parts(audit))
    assert (found["risk"], found["forms"]) == ("high", ["raw", "chat"])
    assert found["pairs"] == audit.pair_set()["count"]
    assert [one["adds"] for one in found["offers"]] == [
        "resid_pre: every layer", "attn_out, mlp_out: every layer", "z: every layer"
    ]  # fmt: skip
    passes = [one["price"]["forward_equivalents"] for one in found["offers"]]
    assert passes == sorted(passes)
    assert all(one["taken"] for one in found["offers"])
    assert api.get("/v1/plans").json()["items"] == []
    whole = api.post("/v1/plans", json=parts(audit)).json()
    assert passes[-1] == whole["cost"]["forward_equivalents"]
    assert found["offers"][-1]["tracing"] == whole["content"]["tracing"]


def test_a_plan_within_a_budget_says_what_it_leaves_out(api: TestClient, audit: Audit) -> None:
    passes = [one["price"]["forward_equivalents"] for one in offers(api, parts(audit))["offers"]]
    body = parts(audit) | {"budget": {"forward_equivalents": passes[1]}}
    assert [one["taken"] for one in offers(api, body)["offers"]] == [True, True, False]
    made = api.post("/v1/plans", json=body)
    assert made.status_code == 201
    plan = Plan.model_validate(made.json()["content"], strict=False)
    assert plan.tracing.kinds == (SiteKind.RESID_PRE, SiteKind.ATTN_OUT, SiteKind.MLP_OUT)
    assert made.json()["cost"]["forward_equivalents"] == passes[1]
    assert plan.scope is not None
    assert plan.scope.left_out == ("z: every layer",)
    assert plan.scope.asked == Tracing()
    assert made.json()["digest"] == plan.digest
    [said] = [rule["sentence"] for rule in made.json()["protocol"] if rule["rule"] == "P024"]
    assert said == "A budget left out of what was asked for: z: every layer. Nothing is said of these."
    assert api.post("/v1/plans", json=body).json()["id"] == made.json()["id"]
    assert audit.plan()["digest"] != plan.digest


def test_the_same_minutes_buy_the_same_plan_when_the_machine_is_measured_anew(
    api: TestClient, audit: Audit, database: Database
) -> None:
    calibrated(database, audit, seconds_per_row=1e-3)
    minutes = [one["price"]["minutes"] for one in offers(api, parts(audit))["offers"]]
    body = parts(audit) | {"budget": {"minutes": (minutes[0] + minutes[1]) / 2}}
    made = api.post("/v1/plans", json=body).json()
    assert made["content"]["scope"]["left_out"] == ["attn_out, mlp_out: every layer", "z: every layer"]
    with database.writing() as session:
        for row in session.query(CalibrationRow):
            row.content = MACHINE.model_copy(update={"seconds_per_row": 1e-6})
    assert all(one["taken"] for one in offers(api, body)["offers"])
    again = api.post("/v1/plans", json=body)
    assert (again.status_code, again.json()["id"]) == (200, made["id"])


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"minutes": 60}, "not known before a worker has run the model"),
        ({"forward_equivalents": 1}, "does not pay for the coarsest look"),
        ({}, "a budget has minutes, forward_equivalents, or both"),
        ({"minutes": -1}, "greater than 0"),
        ({"hours": 1}, "hours"),
    ],
)
def test_a_budget_that_buys_nothing_is_refused(
    api: TestClient, audit: Audit, budget: dict[str, float], said: str
) -> None:
    answer = api.post("/v1/plans", json=parts(audit) | {"budget": budget})
    assert answer.status_code == 422
    assert said in answer.text
    assert api.get("/v1/plans").json()["items"] == []
