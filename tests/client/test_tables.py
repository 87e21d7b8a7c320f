"""A run's numbers as data frames."""

import math
import sys
from typing import Any

import numpy as np
import pytest

from audit_service.client import Client, Table
from audit_service.db.handles import Database
from audit_service.db.tables import ShardRow, TraceRow
from audit_service.domain.lifecycle import ShardState
from audit_service.domain.plan import Plan, ShardKind
from audit_service.domain.trace import DecisionCells, Trace
from audit_service.errors import InvalidInput
from tests.findings.made import MEASURED, add_findings
from tests.service import Audit


@pytest.fixture
def run_id(audit: Audit, database: Database) -> str:
    run_id: str = audit.run()["id"]
    add_findings(database, run_id, Plan.model_validate(audit.plan()["content"], strict=False))
    return run_id


def test_results_are_a_frame_in_which_unknown_is_not_zero(client: Client, run_id: str) -> None:
    table = client.results_table(run_id)
    frame = table.to_pandas()
    assert len(table) == len(frame) == 5
    assert frame["value"].tolist()[:2] == [0.25, 1.0]
    assert frame["value"].isna().tolist() == [False, False, False, False, True]
    assert frame["reason"].iloc[-1] == "The run has no data for it."
    assert client.results_table(run_id, prefix="raw.race.").to_polars()["key"].to_list() == ["raw.race.black.gap_nats"]


def test_the_three_libraries_hold_the_same_cells(client: Client, run_id: str) -> None:
    table = client.effects_table(run_id)
    arrow, polars, pandas = table.to_arrow(), table.to_polars(), table.to_pandas()
    assert arrow.to_pylist() == polars.to_dicts()
    assert pandas.astype(object).where(pandas.notna(), None).to_dict("records") == polars.to_dicts()
    first, second = polars.to_dicts()
    assert (first["form"], first["direction"], first["kind"], first["value"]) == ("raw", "denoise", "resid_pre", 1.0)
    assert (first["head"], second["value"], second["n"]) == (None, None, None)


def test_an_empty_table_keeps_its_columns(client: Client, audit: Audit) -> None:
    frame = client.decisions_table(audit.run()["id"]).to_polars()
    assert frame.is_empty()
    assert str(frame.schema["gap"]) == "Float64"


def test_decisions_stand_beside_the_pair_they_belong_to(client: Client, audit: Audit, database: Database) -> None:
    run_id: str = audit.run()["id"]
    pairs = list(client.pairs(audit.pair_set()["id"]))[:2]
    d = np.float32([[1.0, 0.25], [np.nan, 2.0]])
    log_p = np.log(np.float32([[0.6, 0.5], [0.3, 0.7]]))
    _add_decisions(database, run_id, [pair.id for pair in pairs], DecisionCells(d, log_p, log_p - d))
    first, second = client.decisions_table(run_id).to_polars().to_dicts()
    assert [first["pair"], second["pair"]] == [pair.id for pair in pairs]
    assert (first["reference_cue"], first["comparison_cue"]) == (pairs[0].reference_cue, pairs[0].comparison_cue)
    assert first["gap"] == 0.75
    assert first["p_reference"] == pytest.approx(1 / (1 + math.exp(-1)))
    assert first["coverage_reference"] == pytest.approx(0.6 + 0.6 * math.exp(-1), rel=1e-6)
    assert (second["gap"], second["d_reference"], second["d_comparison"]) == (None, None, 2.0)


def _add_decisions(database: Database, run_id: str, pair_ids: list[str], cells: DecisionCells) -> None:
    trace, key = Trace.of(cells), "b" * 32
    fields: dict[str, Any] = {"kind": ShardKind.DECISIONS, "form": "raw", "state": ShardState.DONE, "total": 1}
    with database.writing() as session:
        session.add(ShardRow(run_id=run_id, key=key, ordinal=0, pair_ids=pair_ids, **fields))
        session.flush()
        row = TraceRow(run_id=run_id, shard_key=key, payload=trace.payload, digest=trace.digest, measured=MEASURED)
        session.add(row)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(InvalidInput, match="polars is not installed"):
        Table({"a": int}, {"a": [1]}).to_polars()
