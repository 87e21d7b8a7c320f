"""The work of a sweep is counted as it is done, and a calibration says what it costs."""

import pytest
import torch
from torch import Tensor, nn

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from tests.workers.engine.models import tiny
from workers.engine.costs import calibrate, work_of
from workers.engine.donors import record
from workers.engine.patching import patch_together
from workers.engine.positions import Exchange

CLEAN, CORRUPT = (5, 17, 33, 8, 21, 60, 7, 90, 14), (5, 17, 44, 9, 21, 60, 7, 90, 14)
LONGER = (*CORRUPT[:3], 9, 9, *CORRUPT[3:])
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

    handles = [block.layer.register_forward_pre_hook(count) for block in subject.anatomy.blocks]
    patch_together(subject, recipient, donor, SETS, labels=LABELS)
    for handle in handles:
        handle.remove()
    work = work_of(subject, recipient, donor, SETS, LABELS)
    assert work.layer_rows + work.last_rows == sum(seen)
    assert work.layer_calls == len(seen)
    # Of the last layer one row of each run is needed whole, of all others keys and values.
    assert 0 < work.last_rows < work.cells * 9


@pytest.mark.parametrize("clean", [CLEAN, LONGER])
def test_a_calibration_explains_what_it_measured(clean: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    subject = tiny("llama")
    found = calibrate(subject, clean, CORRUPT, LABELS, rounds=1)
    assert found.seconds_per_row + found.seconds_per_attended + found.seconds_per_call + found.seconds_per_cell > 0
    assert found.seconds_per_entry > 0 < found.seconds_per_vocabulary_row
    assert (found.device, found.dtype, found.threads) == ("cpu", "float32", torch.get_num_threads())
    layer = subject.anatomy.blocks[0].layer
    assert found.layer_parameters == sum(parameter.numel() for parameter in layer.parameters())
    attention = layer.self_attn
    inner = sum(m.weight.numel() for m in (attention.q_proj, attention.k_proj, attention.v_proj))
    assert found.last_share == pytest.approx(inner / found.layer_parameters)


def test_kept_bytes_are_those_of_a_recordings_tensors() -> None:
    subject = tiny("llama")
    recording = record(subject, CORRUPT)
    tensors = [*recording.resid, *recording.z, *recording.attn_out, *recording.mlp_out]
    tensors += [part for heads in recording.heads for part in heads[:3]]
    whole = sum(tensor.nbytes for tensor in tensors)
    assert calibrate(subject, CLEAN, CORRUPT, LABELS, rounds=1).kept_bytes_per_token == whole // len(CORRUPT)
