"""Every cell equals the plain forward-hook computation on the same module."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Never

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import HEAD_KINDS, SiteKind
from audit_service.errors import Cancelled, InvalidTrace
from tests.workers.engine import naive
from tests.workers.engine.models import VARIANTS, tiny
from workers.engine import attention
from workers.engine.answers import unpatched
from workers.engine.donors import record
from workers.engine.loading import Subject
from workers.engine.patching import patch, patch_together
from workers.engine.placing import heads_of
from workers.engine.positions import Exchange
from workers.engine.readout import full_decision, logits

CLEAN = (5, 17, 33, 8, 21, 60, 7, 90, 14)
CORRUPT = (5, 17, 44, 9, 21, 60, 7, 90, 14)
LONGER = (5, 17, 44, 9, 70, 21, 60, 7, 90, 14)
LABELS = LabelTokens.single(favorable=(3, 11), unfavorable=(12,))
KINDS = (SiteKind.RESID_PRE, SiteKind.RESID_MID, SiteKind.RESID_POST, SiteKind.ATTN_OUT, SiteKind.MLP_OUT, SiteKind.Z)
INSIDE = (SiteKind.Q, SiteKind.K, SiteKind.V, SiteKind.PATTERN)
EXPERTS = ("mixtral", "qwen3-moe")
TOLERANCE = 1e-4
COMPARED = 24
"""Cells that are computed by plain hooks as well, at least; they are drawn from all that are patched together."""
Ids = tuple[int, ...]
Positions = Sequence[tuple[Ids, Ids]]


def _exchanges(subject: Subject, positions: Positions, kinds: Sequence[SiteKind] = KINDS) -> Iterator[Exchange]:
    anatomy = subject.anatomy
    for kind, layer in itertools.product(kinds, range(anatomy.layers)):
        if kind is SiteKind.RESID_MID and anatomy.parallel:
            continue
        for head in range(heads_of(anatomy, kind)) if kind in HEAD_KINDS else [None]:
            for recipient, donor in positions:
                yield Exchange(kind, layer, head, recipient, donor)


def _assert_equals_naive(
    subject: Subject, recipient: Ids, donor: Ids, positions: Positions, kinds: Sequence[SiteKind] = KINDS
) -> None:
    exchanges = list(_exchanges(subject, positions, kinds))
    sides = (record(subject, ids, neurons=SiteKind.NEURONS in kinds) for ids in (recipient, donor))
    found = patch(subject, *sides, exchanges, labels=LABELS)
    drawn = np.random.default_rng(len(exchanges)).permutation(len(exchanges))[: max(COMPARED, len(exchanges) // 4)]
    expected = [naive.patched_decision(subject, recipient, donor, exchanges[number], LABELS) for number in drawn]
    np.testing.assert_allclose(found[drawn], expected, atol=TOLERANCE, rtol=0)
    assert np.ptp(expected) > 100 * TOLERANCE


@pytest.mark.parametrize("variant", VARIANTS)
def test_single_tokens_equal_plain_hooks_in_every_family(variant: str) -> None:
    positions = [((t,), (t,)) for t in range(len(CLEAN))]
    _assert_equals_naive(tiny(variant), CORRUPT, CLEAN, positions)


@pytest.mark.parametrize("variant", VARIANTS)
def test_segments_of_prompts_of_unequal_length_equal_plain_hooks_in_every_family(variant: str) -> None:
    positions = [((2, 3), (3, 4)), ((4, 5, 6, 7), (5, 6, 7, 8)), ((8,), (9,)), ((2, 8), (2, 9))]
    _assert_equals_naive(tiny(variant), CLEAN, LONGER, positions)


def test_equal_beginnings_that_are_encoded_otherwise_in_a_longer_prompt_equal_plain_hooks() -> None:
    """LongRoPE stretches all positions of a text once it exceeds a length."""
    positions = [((0,), (0,)), ((0, 1), (0, 1)), ((3,), (3,)), ((6,), (7,))]
    _assert_equals_naive(tiny("phi3-longrope"), CLEAN[:7], LONGER[:8], positions)


@pytest.mark.parametrize("variant", VARIANTS)
def test_queries_keys_values_and_patterns_equal_plain_hooks_in_every_family(variant: str) -> None:
    positions = [((4,), (4,)), ((8,), (8,)), ((2, 3, 6), (2, 3, 6)), (tuple(range(9)), tuple(range(9)))]
    _assert_equals_naive(tiny(variant), CORRUPT, CLEAN, positions, INSIDE)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in EXPERTS])
def test_the_mlps_hidden_activations_equal_plain_hooks_in_every_family(variant: str) -> None:
    positions = [((t,), (t,)) for t in (0, 3, 8)] + [((4, 5, 6, 7), (5, 6, 7, 8))]
    _assert_equals_naive(tiny(variant), CLEAN, LONGER, positions, [SiteKind.NEURONS])


@pytest.mark.parametrize("variant", EXPERTS)
def test_neurons_of_a_mixture_of_experts_are_refused(variant: str) -> None:
    subject = tiny(variant)
    recording = record(subject, CLEAN, neurons=True)
    with pytest.raises(InvalidTrace, match="mixture of experts"):
        patch(subject, recording, recording, [Exchange(SiteKind.NEURONS, 0, None, (8,), (8,))], labels=LABELS)


def test_neurons_that_were_not_recorded_are_asked_for_by_name() -> None:
    subject = tiny("llama")
    recipient, donor = record(subject, CLEAN), record(subject, LONGER)
    with pytest.raises(InvalidTrace, match="holds no neurons"):
        patch(subject, recipient, donor, [Exchange(SiteKind.NEURONS, 0, None, (8,), (9,))], labels=LABELS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_sites_exchanged_together_equal_plain_hooks_in_every_family(variant: str) -> None:
    subject = tiny(variant)
    window = [Exchange(SiteKind.ATTN_OUT, layer, None, (2, 3), (3, 4)) for layer in (0, 1)]
    mixed = [
        Exchange(SiteKind.MLP_OUT, 0, None, (4, 8), (5, 9)),
        Exchange(SiteKind.Z, 1, 2, (3, 8), (4, 9)),
        Exchange(SiteKind.RESID_PRE, 2, None, (2,), (3,)),
        Exchange(SiteKind.RESID_POST, 2, None, (8,), (9,)),
        Exchange(SiteKind.Z, 2, 0, (0, 8), (0, 9)),
    ]
    inside = [
        Exchange(SiteKind.Q, 1, 3, (3, 8), (3, 8)),
        Exchange(SiteKind.K, 1, 0, (2, 3), (2, 3)),
        Exchange(SiteKind.V, 1, 0, (2, 6), (3, 7)),
        Exchange(SiteKind.V, 2, 0, (4,), (5,)),
    ]
    sets = [window, mixed, mixed[:3], mixed[1:2] + mixed[4:], [*mixed[:3], *window], inside, [*mixed, *inside]]
    found = patch_together(subject, record(subject, CLEAN), record(subject, LONGER), sets, labels=LABELS)
    expected = [
        naive.decision(naive.logits(subject, CLEAN, [(e, naive.activation(subject, LONGER, e)) for e in each]), *LABELS)
        for each in sets
    ]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_unpatched_logits_equal_the_models_own_forward(variant: str) -> None:
    subject = tiny(variant)
    with torch.no_grad():
        expected = subject.model(torch.tensor([CLEAN])).logits[0, -1]
        found = logits(subject, record(subject, CLEAN).decision)[0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_a_flight_that_does_not_fit_into_memory_is_flown_in_halves() -> None:
    subject = tiny("llama")
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    exchanges = list(_exchanges(subject, [((t,), (t,)) for t in range(9)]))
    whole = patch(subject, recipient, donor, exchanges, labels=LABELS)

    def hold_at_most_40_rows(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if arguments[0].shape[1] > 40:
            raise torch.OutOfMemoryError

    handle = subject.anatomy.blocks[1].mlp_in.register_forward_pre_hook(hold_at_most_40_rows)
    found = patch(subject, recipient, donor, exchanges, labels=LABELS)
    handle.remove()
    np.testing.assert_allclose(found, whole, atol=1e-5, rtol=0)


def test_attention_in_many_small_parts_gives_the_cells_of_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = tiny("llama")
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    exchanges = list(_exchanges(subject, [((t,), (t,)) for t in range(9)]))
    whole = patch(subject, recipient, donor, exchanges, labels=LABELS)
    monkeypatch.setattr(attention, "MOST_SCORES", 1)
    np.testing.assert_allclose(patch(subject, recipient, donor, exchanges, labels=LABELS), whole, atol=1e-5, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_gpu_gives_the_cells_of_the_processor(variant: str) -> None:
    cells = []
    for device in ("cpu", "cuda"):
        subject = tiny(variant)
        subject.model.to(device)
        exchanges = list(_exchanges(subject, [((t,), (t,)) for t in range(9)], [*KINDS, *INSIDE]))
        cells.append(patch(subject, record(subject, CORRUPT), record(subject, CLEAN), exchanges, labels=LABELS))
    np.testing.assert_allclose(cells[0], cells[1], atol=TOLERANCE, rtol=0)


def test_the_same_call_gives_the_same_bytes() -> None:
    subject = tiny("qwen3")
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    exchanges = list(_exchanges(subject, [((2, 3), (2, 3)), ((8,), (8,))]))
    first, second = (patch(subject, recipient, donor, exchanges, labels=LABELS) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_positions_before_the_first_difference_leave_the_unpatched_value_itself() -> None:
    subject = tiny("llama")
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    cells = patch(subject, recipient, donor, [Exchange(SiteKind.RESID_PRE, 1, None, (0, 1), (0, 1))], labels=LABELS)
    assert cells.tobytes() == unpatched(subject, [recipient], LABELS).numpy().tobytes()


def _flown_rows(subject: Subject, exchanges: Sequence[Exchange]) -> list[int]:
    """Rows that go through each layer when the exchanges are made between the two prompts."""
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    rows = [0] * subject.anatomy.layers

    def counted(layer: int) -> Any:
        def count(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            rows[layer] += arguments[0].shape[1]

        return count

    hooks = [b.layer.register_forward_pre_hook(counted(n)) for n, b in enumerate(subject.anatomy.blocks)]
    patch(subject, recipient, donor, exchanges, labels=LABELS)
    for hook in hooks:
        hook.remove()
    return rows


def test_the_first_layer_exchanges_nothing_between_equal_tokens() -> None:
    subject = tiny("llama")
    fronts = [(SiteKind.RESID_PRE, None), (SiteKind.Q, 0), (SiteKind.K, 0), (SiteKind.V, 0)]
    exchanges = [Exchange(kind, 0, head, at, at) for kind, head in fronts for at in ((4,), (5, 8))]
    assert _flown_rows(subject, exchanges) == [0, 0, 0]
    # Of all positions, the two that differ are exchanged, the first of them at position 2 of 9.
    everywhere = tuple(range(9))
    assert _flown_rows(subject, [Exchange(SiteKind.V, 0, 0, everywhere, everywhere)]) == [7, 7, 7]
    assert _flown_rows(subject, [Exchange(SiteKind.RESID_PRE, 0, None, (0, 3), (0, 3))]) == [6, 6, 6]


def test_what_is_changed_behind_a_layers_attention_takes_only_its_own_rows_through_that_layer() -> None:
    subject = tiny("llama")
    for kind, head in ((SiteKind.ATTN_OUT, None), (SiteKind.MLP_OUT, None), (SiteKind.Z, 1)):
        assert _flown_rows(subject, [Exchange(kind, 0, head, (4, 6), (4, 6))]) == [2, 5, 5]
        assert _flown_rows(subject, [Exchange(kind, 2, head, (4, 8), (4, 8))]) == [0, 0, 1]
    assert _flown_rows(subject, [Exchange(SiteKind.Q, 1, 1, (4, 6), (4, 6))]) == [0, 5, 5]


def test_one_exchange_under_several_names_is_computed_once() -> None:
    subject = tiny("llama")
    kinds = ((SiteKind.RESID_PRE, 2), (SiteKind.RESID_MID, 1), (SiteKind.RESID_POST, 1), (SiteKind.RESID_POST, 1))
    exchanges = [Exchange(kind, layer, None, (4,), (4,)) for kind, layer in kinds]
    assert _flown_rows(subject, exchanges) == [0, 0, 5]
    cells = patch(subject, record(subject, CORRUPT), record(subject, CLEAN), exchanges, labels=LABELS)
    assert len({float(cell) for cell in cells}) == 1
    expected = [naive.patched_decision(subject, CORRUPT, CLEAN, e, LABELS) for e in exchanges[:2]]
    np.testing.assert_allclose(cells[:2], expected, atol=TOLERANCE, rtol=0)


def test_the_residual_stream_of_all_positions_carries_the_donors_decision() -> None:
    subject = tiny("gpt2")
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    everywhere = tuple(range(9))
    cells = patch(
        subject, recipient, donor, [Exchange(SiteKind.RESID_PRE, 0, None, everywhere, everywhere)], labels=LABELS
    )
    donors_own = full_decision(subject, donor.decision[None], LABELS).d.numpy()
    np.testing.assert_allclose(cells, donors_own, atol=1e-5, rtol=0)


def test_progress_counts_every_cell_and_names_the_largest_effect() -> None:
    subject = tiny("llama")
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    exchanges = list(_exchanges(subject, [((t,), (t,)) for t in range(9)]))
    seen = []
    cells = patch(subject, recipient, donor, exchanges, labels=LABELS, progress=lambda *state: seen.append(state))
    unpatched = full_decision(subject, recipient.decision[None], LABELS).d.numpy()
    done, total, effect = seen[-1]
    assert done == total == len(exchanges)
    assert effect == pytest.approx(np.abs(cells - unpatched).max())


def _fingerprint(model: PreTrainedModel) -> tuple[Any, Any, Any]:
    return (
        [(name, parameter.detach().clone()) for name, parameter in model.named_parameters()],
        [
            (name, sorted(module.__dict__), len(module._forward_hooks), len(module._forward_pre_hooks))
            for name, module in model.named_modules()
        ],
        model.config._attn_implementation,
    )


def test_a_cancelled_trace_leaves_the_model_bit_for_bit_as_it_was() -> None:
    subject = tiny("gemma2-sliding-softcap")
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    weights, modules, attention = _fingerprint(subject.model)
    answers = iter([False, False, True])
    with pytest.raises(Cancelled):
        patch(
            subject,
            recipient,
            donor,
            list(_exchanges(subject, [((2,), (2,))])),
            labels=LABELS,
            should_stop=lambda: next(answers),
        )
    after_weights, after_modules, after_attention = _fingerprint(subject.model)
    assert (modules, attention) == (after_modules, after_attention)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(weights, after_weights, strict=True))


def test_an_exception_inside_a_layer_leaves_no_hook_behind() -> None:
    subject = tiny("llama")
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    _, before, attention = _fingerprint(subject.model)

    def fail(*_: Any) -> Never:
        raise RuntimeError

    handle = subject.model.model.layers[2].mlp.register_forward_hook(fail)
    with pytest.raises(RuntimeError):
        patch(subject, recipient, donor, [Exchange(SiteKind.Z, 1, 0, (3,), (3,))], labels=LABELS)
    handle.remove()
    _, after, attention_after = _fingerprint(subject.model)
    assert (before, attention) == (after, attention_after)


@pytest.mark.parametrize(
    ("exchange", "words"),
    [
        (Exchange(SiteKind.MLP_OUT, 3, None, (4,), (4,)), "3 layers"),
        (Exchange(SiteKind.Z, 0, 4, (4,), (4,)), "4 such heads"),
        (Exchange(SiteKind.Z, 0, None, (4,), (4,)), "head None"),
        (Exchange(SiteKind.MLP_OUT, 0, 1, (4,), (4,)), "head 1"),
        (Exchange(SiteKind.K, 0, 2, (4,), (4,)), "2 such heads"),
        (Exchange(SiteKind.MLP_OUT, 0, None, (), ()), "exchanged at positions"),
        (Exchange(SiteKind.MLP_OUT, 0, None, (4, 4), (4, 5)), "exchanged at positions"),
        (Exchange(SiteKind.MLP_OUT, 0, None, (4, 5), (4,)), "exchanged at positions"),
        (Exchange(SiteKind.MLP_OUT, 0, None, (9,), (4,)), "of 9 tokens"),
        (Exchange(SiteKind.Q, 0, 2, (4,), (5,)), "q depends on the token's position"),
    ],
)
def test_sites_that_the_model_lacks_are_refused_by_name(exchange: Exchange, words: str) -> None:
    subject = tiny("llama")
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    with pytest.raises(InvalidTrace, match=words):
        patch(subject, recipient, donor, [exchange], labels=LABELS)


def test_patterns_of_prompts_of_unequal_length_are_refused() -> None:
    subject = tiny("llama")
    with pytest.raises(InvalidTrace, match="pattern depends"):
        patch(
            subject,
            record(subject, CLEAN),
            record(subject, LONGER),
            [Exchange(SiteKind.PATTERN, 0, 2, (1,), (1,))],
            labels=LABELS,
        )


def test_the_middle_of_a_parallel_block_is_refused() -> None:
    subject = tiny("gpt_neox-parallel")
    recipient, donor = record(subject, CORRUPT), record(subject, CLEAN)
    with pytest.raises(InvalidTrace, match="side by side"):
        patch(subject, recipient, donor, [Exchange(SiteKind.RESID_MID, 0, None, (4,), (4,))], labels=LABELS)
