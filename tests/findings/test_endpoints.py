import hashlib
import io
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import load
from sqlalchemy import update

from audit_service.db.handles import Database
from audit_service.db.tables import TraceRow
from audit_service.domain.manifest import digest
from audit_service.domain.plan import Plan
from audit_service.domain.results import Judgement
from audit_service.domain.trace import Measured
from tests.findings.made import KEY, MEASURED, add_findings
from tests.service import Audit

MISSING = "01936f5e-7c1a-7a3e-8f00-0242ac120002"


@pytest.fixture
def run(audit: Audit, database: Database) -> dict[str, Any]:
    run = audit.run()
    add_findings(database, run["id"], Plan.model_validate(audit.plan()["content"], strict=False))
    return run


def test_the_verdict_is_the_judgement_under_its_digest(api: TestClient, run: dict[str, Any]) -> None:
    shown = api.get(f"/v1/runs/{run['id']}/verdict").json()
    judgement = Judgement.model_validate(shown["judgement"], strict=False)
    assert shown["value"] == "fail"
    assert shown["digest"] == digest(judgement)


def test_a_run_without_a_verdict_says_how_far_it_is(api: TestClient, audit: Audit) -> None:
    answer = api.get(f"/v1/runs/{audit.run()['id']}/verdict")
    assert answer.status_code == 404
    assert "it is queued" in answer.json()["detail"]


def test_results_come_in_the_judges_order_and_by_prefix(api: TestClient, run: dict[str, Any]) -> None:
    path = f"/v1/runs/{run['id']}/results"
    every = api.get(path).json()["items"]
    assert every[0]["key"] == "raw.race.black.gap_nats"
    assert (every[0]["low"], every[0]["n"], every[0]["p_value"]) == (0.1, 17, 0.01)
    assert api.get(path, params={"prefix": "raw.race."}).json()["items"] == every[:1]
    assert api.get(path, params={"prefix": "%"}).json()["items"] == []
    first = api.get(path, params={"limit": 2}).json()
    rest = api.get(path, params={"limit": 200, "cursor": first["next"]}).json()
    assert first["items"] + rest["items"] == every
    assert rest["next"] is None


def test_what_was_not_measured_has_a_reason_and_no_number(api: TestClient, run: dict[str, Any]) -> None:
    shown = api.get(f"/v1/runs/{run['id']}/results").json()["items"][-1]
    assert (shown["outcome"], shown["value"]) == ("not_measured", None)
    assert shown["reason"] == {"id": "reason.not_measured", "values": {"n": 0}}


def test_a_printed_number_leads_to_all_that_it_rests_on(api: TestClient, audit: Audit, run: dict[str, Any]) -> None:
    shown = api.get(f"/v1/runs/{run['id']}/results").json()["items"][0]
    lineage = api.get(f"/v1/results/{shown['id']}").json()
    assert lineage == shown | {
        "plan_digest": audit.plan()["digest"],
        "model_digest": audit.model()["digest"],
        "pair_set_digest": audit.pair_set()["digest"],
        "behavior_version_id": audit.behavior()["id"],
    }


def test_effects_are_shown_by_site_with_their_adjusted_p(api: TestClient, run: dict[str, Any]) -> None:
    path = f"/v1/runs/{run['id']}/effects"
    first, second = api.get(path, params={"form": "raw", "direction": "denoise"}).json()
    assert (first["kind"], first["layer"], first["head"], first["segment"]) == ("resid_pre", 0, None, "cue")
    assert (first["value"], first["low"], first["high"]) == (1.0, 0.5, 1.5)
    assert (first["p_value"], first["p_maxt"], first["normalised"]) == (0.02, 0.04, 0.5)
    assert (second["outcome"], second["value"], second["p_maxt"]) == ("not_measured", None, None)
    assert api.get(path, params={"form": "raw", "direction": "noise"}).json() == []


def test_the_traces_are_listed_with_how_they_were_measured(api: TestClient, run: dict[str, Any]) -> None:
    [trace] = api.get(f"/v1/runs/{run['id']}/traces").json()["items"]
    assert (trace["shard_key"], trace["form"], trace["direction"]) == (KEY, "raw", "denoise")
    assert Measured.model_validate(trace["measured"], strict=False) == MEASURED


def test_cells_are_downloaded_as_the_bytes_that_were_stored(api: TestClient, run: dict[str, Any]) -> None:
    path = f"/v1/runs/{run['id']}/traces/{KEY}/cells"
    raw = api.get(path, params={"format": "safetensors"})
    assert raw.headers["ETag"] == f'"{hashlib.sha256(raw.content).hexdigest()}"'
    arrays = load(raw.content)
    with np.load(io.BytesIO(api.get(path).content), allow_pickle=False) as npz:
        assert set(npz.files) == set(arrays) | {"pair_ids", "sites"}
        for name, array in arrays.items():
            np.testing.assert_array_equal(npz[name], array)
        assert list(npz["pair_ids"]) == ["one", "two"]
        assert npz["patched"].shape == (2, len(npz["sites"]))
        assert npz["sites"][0] == "resid_pre.L0.cue"


def test_cells_that_changed_after_they_were_stored_are_not_handed_out(
    api: TestClient, run: dict[str, Any], database: Database
) -> None:
    with database.writing() as session:
        session.execute(update(TraceRow).values(payload=b"something else"))
    answer = api.get(f"/v1/runs/{run['id']}/traces/{KEY}/cells")
    assert answer.status_code == 409
    assert "not those that were measured" in answer.json()["detail"]


def test_what_is_not_there_is_404(api: TestClient, audit: Audit) -> None:
    run_id = audit.run()["id"]
    assert api.get(f"/v1/runs/{run_id}/traces/{KEY}/cells").status_code == 404
    assert api.get("/v1/results/1").status_code == 404
    for what in ("verdict", "results", "traces", "effects?form=raw&direction=noise"):
        assert api.get(f"/v1/runs/{MISSING}/{what}").status_code == 404
