"""Noise, zero and mean do what their names say, by plain hooks."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidTrace
from tests.workers.engine import naive
from tests.workers.engine.models import tiny
from workers.engine.corruptions import averaged, blanked, embedding_sd, mean, noised, positional_mean, zeroed
from workers.engine.donors import Recording, record
from workers.engine.loading import Subject
from workers.engine.patching import patch
from workers.engine.positions import Exchange

IDS, OTHER, LONGER = (5, 17, 33, 8, 21), (5, 44, 9, 70, 2), (5, 44, 9, 70, 2, 3, 4)
LABELS = LabelTokens.single(favorable=(3, 11), unfavorable=(12,))
EVERYWHERE = tuple(range(len(IDS)))
SITES = [
    Exchange(SiteKind.RESID_PRE, 1, None, (2,), (2,)),
    Exchange(SiteKind.ATTN_OUT, 0, None, (0, 4), (0, 4)),
    Exchange(SiteKind.MLP_OUT, 2, None, (4,), (4,)),
    Exchange(SiteKind.Z, 1, 3, EVERYWHERE, EVERYWHERE),
]
VARIANTS = ("llama", "gpt2", "gemma2-sliding-softcap")


def _naive(variant: str, values: list[Tensor]) -> list[float]:
    subject = tiny(variant)
    return [naive.decision(naive.logits(subject, IDS, [(s, v)]), *LABELS) for s, v in zip(SITES, values, strict=True)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_zero_ablation_equals_plain_hooks(variant: str) -> None:
    subject = tiny(variant)
    recording = record(subject, IDS)
    expected = _naive(variant, [torch.zeros_like(naive.activation(subject, IDS, site)) for site in SITES])
    np.testing.assert_allclose(patch(subject, recording, zeroed(recording), SITES, labels=LABELS), expected, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_positional_mean_ablation_equals_plain_hooks(variant: str) -> None:
    subject = tiny(variant)
    donor = positional_mean([record(subject, IDS), record(subject, OTHER)])
    means = [(naive.activation(subject, IDS, site) + naive.activation(subject, OTHER, site)) / 2 for site in SITES]
    found = patch(subject, record(subject, IDS), donor, SITES, labels=LABELS)
    np.testing.assert_allclose(found, _naive(variant, means), atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_mean_ablation_equals_plain_hooks(variant: str) -> None:
    subject = tiny(variant)
    donor = mean([record(subject, IDS), record(subject, LONGER)])

    def average(site: Exchange) -> Tensor:
        rows = [naive.activation(subject, ids, site._replace(donor=tuple(range(len(ids))))) for ids in (IDS, LONGER)]
        return torch.cat(rows).mean(0).expand(len(site.recipient), -1)

    found = patch(subject, record(subject, IDS), donor, SITES, labels=LABELS)
    np.testing.assert_allclose(found, _naive(variant, [average(site) for site in SITES]), atol=1e-4)


def _noised(subject: Subject) -> Recording:
    return noised(subject, IDS, (1, 2), seed=7)


def _blanked(subject: Subject) -> Recording:
    recording = blanked(subject, IDS, (1, 2))
    assert not recording.entry.hidden[[1, 2]].any()
    return recording


def _averaged(subject: Subject) -> Recording:
    recording = averaged(subject, IDS, (1, 2))
    embedded = subject.model.get_input_embeddings()(torch.arange(101))
    if subject.anatomy.family != "gpt2":  # which adds its positions
        torch.testing.assert_close(recording.entry.hidden[1], embedded.mean(0), atol=1e-5, rtol=0)
    return recording


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("corrupt", [_noised, _blanked, _averaged])
def test_restoring_clean_activations_in_a_corrupted_run_equals_plain_hooks(
    variant: str, corrupt: Callable[[Subject], Recording]
) -> None:
    subject = tiny(variant)
    recipient = corrupt(subject)

    def put_noise(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (recipient.entry.hidden[None], *arguments[1:])

    values = [naive.activation(subject, IDS, site) for site in SITES]
    handle = subject.anatomy.blocks[0].layer.register_forward_pre_hook(put_noise)
    expected = [
        naive.decision(naive.logits(subject, IDS, [(s, v)]), *LABELS) for s, v in zip(SITES, values, strict=True)
    ]
    handle.remove()
    found = patch(subject, recipient, record(subject, IDS), SITES, labels=LABELS)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_noise_has_three_standard_deviations_at_its_positions_alone() -> None:
    subject = tiny("gemma")
    clean = record(subject, IDS).entry.hidden
    draws = torch.stack([noised(subject, IDS, (1, 3), seed=seed).entry.hidden - clean for seed in range(60)])
    assert not draws[:, [0, 2, 4]].any()
    embedded = subject.model.get_input_embeddings()(torch.arange(101))
    assert float(draws[:, [1, 3]].std()) == pytest.approx(3 * float(embedded.std()), rel=0.05)
    assert embedding_sd(subject) == pytest.approx(float(embedded.std()), rel=1e-4)


@pytest.mark.parametrize("variant", ["granite-scaled", "nanochat", "bloom-alibi", "bert"])
def test_noise_is_measured_on_embeddings_as_they_enter_the_first_layer(variant: str) -> None:
    """Granite multiplies them, the others norm them; the model's own first hidden state shows the outcome."""
    subject = tiny(variant)
    with torch.no_grad():
        states = [subject.model(torch.tensor([[t]]), output_hidden_states=True).hidden_states[0] for t in range(101)]
    assert embedding_sd(subject) == pytest.approx(float(torch.cat(states).std()), rel=0.03)


def test_a_seed_draws_the_same_noise_again() -> None:
    first, again, other = (noised(tiny("llama"), IDS, (1,), seed=seed).entry.hidden for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_noise_outside_the_prompt_is_refused() -> None:
    with pytest.raises(InvalidTrace, match=r"positions \[5\]"):
        noised(tiny("llama"), IDS, (5,), seed=0)


def test_a_positional_mean_over_unequal_lengths_is_refused() -> None:
    subject = tiny("llama")
    with pytest.raises(InvalidTrace, match=r"\[5, 7\]"):
        positional_mean([record(subject, IDS), record(subject, LONGER)])
