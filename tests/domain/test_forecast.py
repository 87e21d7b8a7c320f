"""Work times what a machine was measured to take; memory from what is alive at once."""

import pytest

from audit_service.domain.forecast import Calibration, fastest, forecast
from audit_service.domain.work import ROWS_IN_FLIGHT, Frame, Resumed, Work, largest_flight, sweep, whole_pass

MACHINE = Calibration(
    device="cpu", dtype="float32", threads=2, seconds_per_row=1e-4, seconds_per_attended=1e-7, seconds_per_call=1e-3,
    seconds_per_group=1e-4, seconds_per_entry=2e-2, seconds_per_cell=1e-5, seconds_per_vocabulary_row=5e-4,
    last_share=0.25, layer_parameters=1000, vocabulary_parameters=5000, vocabulary=100, width=10, heads=2,
    resting_bytes=1_000_000, kept_bytes_per_token=100, row_bytes=400, recording_limit=1 << 40, flight_limit=1 << 40,
)  # fmt: skip
WORK = Work(
    layer_rows=1000, last_rows=40, attended=20_000, layer_calls=30, groups=60, entries=2, cells=50, vocabulary_rows=8
)  # fmt: skip


def test_seconds_are_the_sum_of_what_each_kind_of_work_costs() -> None:
    assert MACHINE.seconds(WORK) == pytest.approx(0.101 + 0.002 + 0.03 + 0.006 + 0.04 + 0.0005 + 0.004)


def test_operations_are_two_for_each_parameter_and_row_and_four_for_each_width_and_pair() -> None:
    assert MACHINE.flops(WORK) == 2 * (1000 * 1010 + 5000 * 8) + 4 * 10 * 20_000


def test_memory_is_the_model_two_recordings_and_a_flight_or_the_logits() -> None:
    kept, flight = 2 * 100 * 50, ROWS_IN_FLIGHT * (400 + 12 * 2 * 50)
    assert MACHINE.memory_bytes(50) == 1_000_000 + kept + flight
    assert MACHINE.memory_bytes(50, read_at_once=100_000) == 1_000_000 + kept + 8 * 100 * 100_000
    little = MACHINE.model_copy(update={"recording_limit": 1000, "flight_limit": 200_000})
    rows = largest_flight(200_000, 50, row_bytes=400, heads=2)
    assert little.memory_bytes(50) == 1_000_000 + 2 * 1000 + rows * (400 + 12 * 2 * 50)


def test_a_forecast_names_its_machine() -> None:
    told = forecast(MACHINE, WORK, tokens=50)
    assert (told.device, told.dtype, told.threads) == ("cpu", "float32", 2)
    slower = told.model_copy(update={"seconds": 99.0})
    assert fastest([slower, told]) == told
    assert fastest([]) is None


def test_of_two_measurements_the_faster_one_is_kept() -> None:
    busy = MACHINE.model_copy(update={"seconds_per_row": 3e-4, "seconds_per_call": 9e-4})
    assert busy.with_another(MACHINE) == MACHINE.with_another(busy) == MACHINE.model_copy(update={"measured": 2})


def test_a_sweep_is_the_sum_of_its_runs() -> None:
    """Counted row by row and layer by layer."""
    runs = [Resumed(5, 0), Resumed(5, 2), Resumed(1, 3), Resumed(1, 4), Resumed(7, 1, 2)]
    layers, tokens = 4, 9
    rows = last = attended = 0
    for run in runs:
        rows += run.ahead
        for layer in range(run.joins, layers):
            if layer < layers - 1:
                rows, attended = rows + run.rows, attended + run.rows * tokens
            else:
                rows, last, attended = rows + 1, last + run.rows - 1, attended + tokens
    frame = Frame(layers, tokens)
    found = sweep(runs, frame)
    assert (found.layer_rows, found.last_rows, found.attended) == (rows, last, attended)
    assert (found.cells, found.layer_calls) == (5, 4)
    # Runs of five rows form one group from layer 0 on, that of seven one from 1 on, those of one from 3 on.
    assert found.groups == 4 + 3 + 1
    # Flights of at most 8 rows: [7], [5], [5, 1, 1] or so; each passes the layers from its first run on.
    assert sweep(runs, frame._replace(at_once=8)).layer_calls == 4 + 4 + 2
    assert sweep(runs, frame._replace(packs=False)).layer_calls == 4 + 4 + 2 + 1 + 0


def test_where_runs_do_not_resume_the_last_layer_is_computed_whole() -> None:
    found = sweep([Resumed(9, 2), Resumed(9, 4)], Frame(4, 9, packs=False, resumes=False))
    assert (found.layer_rows, found.last_rows) == (2 * 9, 0)


def test_a_share_of_a_run_is_that_share_of_its_work() -> None:
    whole, half = (sweep([Resumed(5, 1, 2, share)], Frame(4, 9)) for share in (1, 0.5))
    for name in ("layer_rows", "last_rows", "attended", "groups", "cells"):
        assert getattr(half, name) == getattr(whole, name) / 2


def test_a_whole_pass_is_one_pass() -> None:
    assert whole_pass(9, layers=4).passes(layers=4, tokens=9) == 1
    assert Work.total([whole_pass(9, layers=4).times(2), whole_pass(9, layers=4)]).attended == 3 * 4 * 81
