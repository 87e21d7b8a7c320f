"""The work of a sweep is counted as it is done."""

import pytest
import torch
from torch import Tensor, nn

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from tests.workers.engine.models import tiny
from workers.engine.costs import Calibration, calibrate, work_of
from workers.engine.donors import record
from workers.engine.patching import patch_together
from workers.engine.positions import Exchange

CLEAN, CORRUPT = (5, 17, 33, 8, 21, 60, 7, 90, 14), (5, 17, 44, 9, 21, 60, 7, 90, 14)
LABELS = LabelTokens(((3,),), ((12,),))
SETS = [
    (Exchange(kind, layer, None, (at,), (at,)),)
    for kind in (SiteKind.RESID_PRE, SiteKind.MLP_OUT)
    for layer in range(3)
    for at in range(9)
]


def test_counted_rows_are_those_that_pass_through_the_layers() -> None:
    subject = tiny("llama")
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    seen: list[int] = []

    def count(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen.append(arguments[0].shape[1])

    handles = [block.layer.register_forward_pre_hook(count) for block in subject.anatomy.blocks[:-1]]
    handles.append(subject.anatomy.blocks[-1].layer.register_forward_pre_hook(lambda *_: seen.append(0)))
    patch_together(subject, recipient, donor, SETS, labels=LABELS)
    for handle in handles:
        handle.remove()
    work = work_of(subject, recipient, donor, SETS)
    # The last layer counts a share of its rows: those that enter it, for keys and values, and the last of each run.
    last = work.layer_rows - sum(seen)
    assert 0 < last < 36 * 9
    assert work.layer_calls == len(seen)
    assert work.forward_equivalents == pytest.approx(work.layer_rows / 27)


def test_a_calibration_explains_its_own_sweeps() -> None:
    torch.manual_seed(0)
    found = calibrate(tiny("llama"), CLEAN, CORRUPT, LABELS, repeats=1)
    assert min(found) >= 0 < max(found)


def test_seconds_are_the_sum_of_what_each_kind_of_work_costs() -> None:
    subject = tiny("llama")
    work = work_of(subject, record(subject, CORRUPT), record(subject, CLEAN), SETS)
    found = Calibration(1e-6, 1e-9, 1e-3).seconds(work)
    assert found == pytest.approx(1e-6 * work.layer_rows + 1e-9 * work.attended + 1e-3 * work.layer_calls)
