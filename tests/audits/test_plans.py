from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from audit_service.audits import lifecycle
from audit_service.db.handles import Database
from audit_service.db.tables import CalibrationRow, PreviewRow, VerdictRow
from audit_service.domain.forecast import forecast
from audit_service.domain.generation import generate
from audit_service.domain.lifecycle import PreviewState, RunState
from audit_service.domain.manifest import digest
from audit_service.domain.plan import Plan
from audit_service.domain.preview import FormPreview, Preview
from audit_service.domain.protocol import Seen, lint_plan
from audit_service.domain.results import Judgement, Sentence, Verdict, VerdictValue
from audit_service.domain.sentences import english
from audit_service.domain.work import Work
from tests.domain.test_forecast import MACHINE
from tests.service import Audit

JUDGEMENT = Judgement(
    verdict=Verdict(scope="behavior", value=VerdictValue.PASS, reasons=(Sentence(id="verdict.pass"),)),
    forms=(),
    results=(),
    protocol=(),
    controls=(),
)


def judge(database: Database, run_id: str) -> None:
    """The run gets as far as its verdict."""
    with database.writing() as session:
        for state in (RunState.RUNNING, RunState.JUDGING, RunState.REPORTING):
            lifecycle.move(session, run_id, state, by="test")
        session.add(VerdictRow(run_id=run_id, value=VerdictValue.PASS, judgement=JUDGEMENT, digest=digest(JUDGEMENT)))


def parts(audit: Audit) -> dict[str, Any]:
    return {
        "model_version_id": audit.model()["id"],
        "behavior_version_id": audit.behavior()["id"],
        "pair_set_id": audit.pair_set()["id"],
        "judging": {"delta_nats": 0.1},
    }


def test_a_plan_is_frozen_under_the_digest_of_its_content(api: TestClient, audit: Audit) -> None:
    made = audit.plan()
    plan = Plan.model_validate(made["content"], strict=False)
    assert made["digest"] == plan.digest
    assert plan.pair_set.digest == audit.pair_set()["digest"]
    assert plan.model.digest == audit.model()["digest"]
    assert api.get(f"/v1/plans/{made['id']}").json() == made
    assert api.get("/v1/plans").json()["items"] == [made]


def test_a_plan_knows_its_cost(audit: Audit) -> None:
    cost = audit.plan()["cost"]
    sites = 3 * 2 * 3 + 2 * 3  # three kinds x two layers x three segments, and each head once
    traced = 2 * 2 * (12 + 2)  # two forms x two directions x the traced pairs
    prompts = cost["forward_passes"] - traced * (2 + sites)
    assert 0 < prompts <= 2 * audit.pair_set()["count"]
    assert 0 < cost["forward_equivalents"] < cost["forward_passes"]
    assert cost["counted"] is False
    assert audit.plan()["forecasts"] == []


def test_a_plan_says_how_long_it_takes_once_a_worker_has_run_the_model(
    api: TestClient, audit: Audit, database: Database
) -> None:
    made = audit.plan()
    with database.writing() as session:
        for threads, seconds in ((1, 2e-4), (2, 1e-4)):
            content = MACHINE.model_copy(update={"threads": threads, "seconds_per_row": seconds})
            session.add(
                CalibrationRow(
                    model_version_id=audit.model()["id"],
                    device="cpu",
                    dtype="float32",
                    threads=threads,
                    content=content,
                )
            )
    shown = api.get(f"/v1/plans/{made['id']}").json()
    assert [one["threads"] for one in shown["forecasts"]] == [1, 2]
    work = Work(**shown["cost"]["work"])
    told = [forecast(MACHINE.model_copy(update={"seconds_per_row": s}), work, tokens=1) for s in (2e-4, 1e-4)]
    assert [one["seconds"] for one in shown["forecasts"]] == [one.seconds for one in told]
    assert shown["forecasts"][0]["memory_bytes"] > MACHINE.resting_bytes
    assert api.get("/v1/plans").json()["items"] == [shown]


def test_a_plan_names_the_rules_of_the_protocol_that_it_does_not_keep(audit: Audit) -> None:
    plan = Plan.model_validate(audit.plan()["content"], strict=False)
    expected = lint_plan(plan, generate(plan.behavior).pairs, Seen(unequal_spans=0.0))
    shown = [(finding["rule"], finding["level"], finding["sentence"]) for finding in audit.plan()["protocol"]]
    assert shown == [(finding.rule, finding.level, english(finding.sentence)) for finding in expected]
    assert {"P003", "P005"} <= {finding.rule for finding in expected}, "what only the model can tell is not evaluated"


def test_what_a_preview_saw_is_evaluated_before_the_run(api: TestClient, audit: Audit, database: Database) -> None:
    form = FormPreview(
        form="raw",
        pairs=4,
        unequal_spans=0.5,
        coverage_mean=0.2,
        coverage_min=0.1,
        below_min_coverage=0.75,
        saturated=0.0,
    )
    wanted = {"model_version_id": audit.model()["id"], "behavior_version_id": audit.behavior()["id"]}
    asked = audit.create(f"pair-sets/{audit.pair_set()['id']}/previews", wanted)
    with database.writing() as session:
        row = session.get_one(PreviewRow, asked["id"])
        row.state, row.content = PreviewState.DONE, Preview(label_tokens={}, forms=(form,), examples=())
    found = {finding["rule"]: finding for finding in audit.plan()["protocol"]}
    assert found["P003"]["level"] == "warning"
    assert found["P003"]["sentence"].startswith("75% of prompts")
    assert found["P003"]["remedy"]
    assert "P005" not in found


def test_a_plan_says_what_it_can_detect(audit: Audit) -> None:
    assumed, now, *more = audit.plan()["power"]
    assert "no pilot is declared" in assumed
    assert now.startswith("black: with these 36 names (18 independent cue pairs) a gap of ")
    assert [line.startswith("black: for 0.1 nats take ") for line in more] == [True]
    pilot = {"spread_nats": 0.05, "source": "pilot of May"}
    declared, now = audit.plan(pilot=pilot)["power"]
    assert declared.endswith("pilot of May.")


def test_a_plan_names_its_metrics_and_holds_their_formulas(api: TestClient, audit: Audit) -> None:
    odds = {"name": "odds", "formula": "exp(d)", "title": "Odds", "unit": "odds"}
    made = api.post("/v1/metrics", json=odds).json()
    plan = audit.create("plans", parts(audit) | {"metric_ids": [made["id"]]})
    assert [metric["formula"] for metric in plan["content"]["metrics"]] == ["exp(d)"]
    assert plan["digest"] != audit.plan()["digest"]
    unknown = {"metric_ids": ["01936f5e-7c1a-7a3e-8f00-0242ac120002"]}
    assert api.post("/v1/plans", json=parts(audit) | unknown).status_code == 404


@pytest.mark.parametrize(
    ("tracing", "said"),
    [
        ({"windows": [1, 9]}, "windows of [9] layers"),
        ({"joint_sites": 1}, "two by two"),
        ({"corruptions": ["zero"], "directions": ["denoise"]}, "traced by noising"),
    ],
)
def test_traces_that_cannot_be_made_are_refused(
    api: TestClient, audit: Audit, tracing: dict[str, Any], said: str
) -> None:
    answer = api.post("/v1/plans", json=parts(audit) | {"tracing": tracing})
    assert answer.status_code == 422
    assert said in answer.json()["errors"][0]["detail"]


def test_a_metric_over_answers_that_the_behavior_does_not_declare_is_refused(api: TestClient, audit: Audit) -> None:
    rate = {"name": "rate", "formula": "p_of_low", "title": "Low", "unit": "share"}
    made = api.post("/v1/metrics", json=rate).json()
    answer = api.post("/v1/plans", json=parts(audit) | {"metric_ids": [made["id"]]})
    assert answer.status_code == 422
    assert "['low']" in answer.json()["errors"][0]["detail"]


def test_a_plan_that_breaks_a_rule_is_made_but_not_run(api: TestClient, audit: Audit) -> None:
    plan = audit.plan(delta_nats=5.0)  # a margin of equivalence beyond the threshold of disparity
    [error] = [finding["rule"] for finding in plan["protocol"] if finding["level"] == "error"]
    answer = api.post("/v1/runs", json={"plan_id": plan["id"]})
    assert answer.status_code == 409
    [found] = answer.json()["errors"]
    assert found["detail"].startswith(f"{error}: ")
    assert api.get("/v1/runs").json()["items"] == []


def test_the_same_terms_are_the_same_plan(api: TestClient, audit: Audit) -> None:
    first = audit.plan()
    again = api.post("/v1/plans", json=parts(audit))
    assert again.status_code == 200
    assert again.json() == first
    assert audit.plan(alpha=0.01)["id"] != first["id"]


def test_a_plan_over_a_changed_model_is_refused_and_the_file_is_named(
    api: TestClient, audit: Audit, model_folder: Path
) -> None:
    wanted = parts(audit)
    (model_folder / "config.json").write_text("{}")
    answer = api.post("/v1/plans", json=wanted)
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:audit-service:model-changed"
    assert [found["detail"] for found in answer.json()["errors"]] == ["config.json: changed"]
    assert api.get("/v1/plans").json()["items"] == []


def test_pairs_of_another_behavior_are_refused(api: TestClient, audit: Audit) -> None:
    csv = "attribute,reference_group,comparison_group,reference_prompt,comparison_prompt\nage,old,young,Old,Young\n"
    pair_set = api.post("/v1/pair-sets/upload?name=x&format=csv", content=csv).json()
    answer = api.post("/v1/plans", json=parts(audit) | {"pair_set_id": pair_set["id"]})
    assert answer.status_code == 422
    assert any("no group 'old' of 'age'" in found["detail"] for found in answer.json()["errors"])


def test_segments_that_no_pair_has_are_refused(api: TestClient, audit: Audit) -> None:
    answer = api.post("/v1/plans", json=parts(audit) | {"tracing": {"segments": ["cue", "middle"]}})
    assert answer.status_code == 422
    assert "'middle'" in answer.json()["errors"][0]["detail"]


def test_terms_that_change_after_a_verdict_was_seen_are_exploratory(audit: Audit, database: Database) -> None:
    first = audit.plan()
    before = audit.plan(alpha=0.01)
    assert (before["exploratory"], before["predecessor"]) == (False, None)
    judge(database, audit.run()["id"])
    after = audit.plan(alpha=0.02)
    assert (after["exploratory"], after["predecessor"]) == (True, first["digest"])
    assert after["digest"] == Plan.model_validate(after["content"], strict=False).digest
    assert audit.plan(alpha=0.02) == after


@pytest.mark.parametrize("ends", [None, RunState.CANCELLED])
def test_terms_that_change_once_a_run_has_begun_are_exploratory(
    audit: Audit, database: Database, ends: RunState | None
) -> None:
    first, run = audit.plan(), audit.run()["id"]
    with database.writing() as session:
        lifecycle.move(session, run, RunState.RUNNING, by="test")
        if ends:
            lifecycle.move(session, run, ends, by="test")
    after = audit.plan(alpha=0.02)
    assert (after["exploratory"], after["predecessor"]) == (True, first["digest"])


def test_a_plan_repeated_after_its_verdict_stays_what_it_was(audit: Audit, database: Database) -> None:
    first = audit.plan()
    judge(database, audit.run()["id"])
    assert audit.plan() == first


def test_the_same_terms_on_a_new_model_are_a_revalidation_and_not_exploratory(
    api: TestClient, audit: Audit, database: Database, model_folder: Path
) -> None:
    judge(database, audit.run()["id"])
    wanted = parts(audit)
    (model_folder / "training.json").write_text('{"retrained": 1}')
    made = audit.create("plans", wanted | {"model_version_id": audit.model(version="2")["id"]})
    assert (made["exploratory"], made["predecessor"]) == (False, None)


def test_a_part_that_is_not_there_is_404(api: TestClient, audit: Audit) -> None:
    missing = {"pair_set_id": "01936f5e-7c1a-7a3e-8f00-0242ac120002"}
    assert api.post("/v1/plans", json=parts(audit) | missing).status_code == 404


class TestRivals:
    """Plans of other terms over one model and behavior, made before any was run."""

    def test_only_the_one_that_is_run_first_is_as_it_was_before_results(self, api: TestClient, audit: Audit) -> None:
        first, rival = audit.plan(), audit.plan(alpha=0.01)
        assert (first["exploratory"], rival["exploratory"]) == (False, False)
        assert api.post("/v1/runs", json={"plan_id": first["id"]}).status_code == 201
        refused = api.post("/v1/runs", json={"plan_id": rival["id"]})
        assert refused.status_code == 409
        assert first["id"] in refused.json()["detail"]
        assert "Make the plan again" in refused.json()["remedy"]

    def test_made_again_it_is_exploratory_names_the_other_and_can_be_run(self, api: TestClient, audit: Audit) -> None:
        first, rival = audit.plan(), audit.plan(alpha=0.01)
        api.post("/v1/runs", json={"plan_id": first["id"]})
        again = audit.plan(alpha=0.01)
        assert again["id"] != rival["id"]
        assert (again["exploratory"], again["predecessor"]) == (True, first["digest"])
        assert "P012" in {finding["rule"] for finding in again["protocol"]}
        assert api.post("/v1/runs", json={"plan_id": again["id"]}).status_code == 201
        assert audit.plan(alpha=0.01) == again
        assert audit.plan() == first
        assert api.post("/v1/runs", json={"plan_id": first["id"]}).status_code == 201

    def test_a_run_that_was_cancelled_before_it_began_showed_nothing(
        self, api: TestClient, audit: Audit, database: Database
    ) -> None:
        rival, run = audit.plan(alpha=0.01), audit.run()
        with database.writing() as session:
            lifecycle.move(session, run["id"], RunState.CANCELLED, by="test")
        assert audit.plan(alpha=0.01) == rival
        assert api.post("/v1/runs", json={"plan_id": rival["id"]}).status_code == 201
