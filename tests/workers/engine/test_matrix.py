"""Every family, site kind, direction and corruption against plain forward hooks, on cells drawn from all of them."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from audit_service.domain.labels import LabelTokens
from audit_service.domain.plan import Direction
from audit_service.domain.sites import HEAD_KINDS, SiteKind
from audit_service.errors import InvalidTrace
from tests.workers.engine import naive
from tests.workers.engine.models import CLASSIFIERS, HYBRIDS, MORE, TOWERS, VARIANTS, WHOLE, config_of, tiny
from workers.engine.changes import Features, Neurons, Part, Subspace
from workers.engine.corruptions import mean, noised, positional_mean, zeroed
from workers.engine.decisions import measure_decisions
from workers.engine.donors import Recording, record
from workers.engine.families import FAMILIES
from workers.engine.families import TOWERS as TOWERS_TAKEN
from workers.engine.heads import INSIDE
from workers.engine.loading import Subject
from workers.engine.neurons import neurons_reader
from workers.engine.patching import patch
from workers.engine.placing import heads_of
from workers.engine.positions import Exchange
from workers.engine.selfcheck import TOLERANCE

CLEAN = (5, 17, 33, 8, 21, 60, 7, 90, 14)
CORRUPT = (5, 17, 44, 9, 21, 60, 7, 90, 14)
EVERYWHERE = tuple(range(len(CLEAN)))
TOKENS = LabelTokens.single(favorable=(3, 11), unfavorable=(12,))
CLASSES = LabelTokens.single(favorable=(1,), unfavorable=(0, 2))
TRIED = [*VARIANTS, *MORE, *WHOLE, *HYBRIDS, *TOWERS, *CLASSIFIERS]


def labels_of(variant: str) -> LabelTokens:
    return CLASSES if variant in CLASSIFIERS else TOKENS


def cells(subject: Subject, kinds: list[SiteKind], *, seed: int) -> list[Exchange]:
    """Every kind in every layer, each at one position, one pair of positions and all, some of them drawn."""
    anatomy, rng = subject.anatomy, np.random.default_rng(seed)
    made = []
    for kind, layer in itertools.product(kinds, range(anatomy.layers)):
        if kind in HEAD_KINDS and not heads_of(anatomy, kind, layer):
            continue
        head = int(rng.integers(heads_of(anatomy, kind, layer))) if kind in HEAD_KINDS else None
        several = tuple(sorted(rng.choice(len(CLEAN), size=2, replace=False).tolist()))
        at = [(int(rng.integers(2, len(CLEAN))),), several, EVERYWHERE][int(rng.integers(3))]
        made.append(Exchange(kind, layer, head, at, at))
    return made


def kinds_of(subject: Subject, *, inside: bool) -> list[SiteKind]:
    absent = {SiteKind.RESID_MID} if subject.anatomy.parallel else set()
    absent |= {SiteKind.NEURONS} if any(neurons_reader(block) is None for block in subject.anatomy.blocks) else set()
    absent |= set() if inside and subject.anatomy.flow.packs else INSIDE
    return [kind for kind in SiteKind if kind not in absent]


@pytest.mark.parametrize("variant", TRIED)
@pytest.mark.parametrize("direction", Direction)
def test_exchanges_between_the_prompts_of_a_pair_equal_plain_hooks(variant: str, direction: Direction) -> None:
    subject, labels = tiny(variant), labels_of(variant)
    recipient, donor = (CORRUPT, CLEAN) if direction is Direction.DENOISE else (CLEAN, CORRUPT)
    exchanges = cells(subject, kinds_of(subject, inside=True), seed=len(variant))
    sides = (record(subject, ids, neurons=True) for ids in (recipient, donor))
    found = patch(subject, *sides, exchanges, labels=labels)
    expected = [naive.patched_decision(subject, recipient, donor, exchange, labels) for exchange in exchanges]
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert np.ptp(expected) > 0.01


def _rows(subject: Subject, ids: tuple[int, ...], exchange: Exchange) -> Tensor:
    """All rows of a site, as the model itself makes them."""
    read = naive.middle if exchange.kind is SiteKind.RESID_MID else naive.activation
    return read(subject, ids, exchange._replace(donor=EVERYWHERE))


def _corrupted(subject: Subject) -> dict[str, tuple[Recording, Recording, Callable[[Tensor, Tensor], Tensor]]]:
    """Name → recipient, donor, and what a plain hook puts in, from the site's rows of the clean and another prompt."""
    clean, other = (record(subject, ids, neurons=True) for ids in (CLEAN, CORRUPT))
    return {
        "zero": (clean, zeroed(other), lambda mine, _: torch.zeros_like(mine)),
        "mean": (clean, mean([clean, other]), lambda mine, theirs: torch.cat((mine, theirs)).mean(0).expand_as(mine)),
        "positional mean": (clean, positional_mean([clean, other]), lambda mine, theirs: (mine + theirs) / 2),
        "noise": (noised(subject, CLEAN, (2, 3), seed=3), clean, lambda mine, _: mine),
        "resample": (clean, other, lambda _, theirs: theirs),
    }


@pytest.mark.parametrize("variant", TRIED)
def test_all_other_corruptions_equal_plain_hooks(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in every kind, at layers that change from corruption to corruption."""
    monkeypatch.setattr(naive, "BY_INTERFACE", set(FAMILIES))  # a mean of queries is one behind their encoding
    subject, labels = tiny(variant), labels_of(variant)
    kinds = [kind for kind in kinds_of(subject, inside=True) if kind is not SiteKind.PATTERN]
    drawn = cells(subject, kinds, seed=len(variant))
    for number, (name, (recipient, donor, value)) in enumerate(_corrupted(subject).items()):
        exchanges = drawn[number % 3 :: subject.anatomy.layers]
        found = patch(subject, recipient, donor, exchanges, labels=labels)
        start = recipient.entry.hidden[None]
        values = [value(*(_rows(subject, ids, one) for ids in (CLEAN, CORRUPT)))[list(one.donor)] for one in exchanges]
        handle = subject.anatomy.blocks[0].layer.register_forward_pre_hook(lambda _, args, x=start: (x, *args[1:]))
        expected = [
            naive.decision(naive.changed_logits(subject, CLEAN, [(one, lambda _, put=put: put)]), *labels)
            for one, put in zip(exchanges, values, strict=True)
        ]
        handle.remove()
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0, err_msg=name)


@pytest.mark.parametrize("donor", [zeroed, lambda run: mean([run])])
def test_a_donor_that_is_no_run_has_no_pattern_to_give(donor: Callable[[Recording], Recording]) -> None:
    subject = tiny("llama")
    recording = record(subject, CLEAN)
    with pytest.raises(InvalidTrace, match="no attention pattern of its own"):
        patch(subject, recording, donor(recording), [Exchange(SiteKind.PATTERN, 0, 1, (8,), (8,))], labels=TOKENS)


def test_every_family_that_is_offered_is_tried() -> None:
    tried = [config_of(variant, vocabulary=101) for variant in TRIED]
    assert {config.get_text_config().model_type for config in tried} == set(FAMILIES)
    assert {config.model_type for config in tried} - set(FAMILIES) == set(TOWERS_TAKEN)


HALVES = [
    *("gpt2", "llama", "gemma2-sliding-softcap", "qwen3", "opt", "gpt_neox-parallel", "cohere", "bloom-alibi"),
    *("falcon-new", "bert", "deberta-v2", "modernbert-mean", "llama-classes", "youtu", "granite_swa-sinks"),
    *("gemma4_text", "qwen3_5_text", "granitemoehybrid", "gemma3-images", "megatron-bert"),
]
"""Families of every build but mixtures of experts, which may send a rounded row to another expert."""


@pytest.mark.parametrize("variant", HALVES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_within_its_stated_bound_of_plain_hooks(variant: str, dtype: torch.dtype) -> None:
    subject, labels = tiny(variant), labels_of(variant)
    subject.model.to(dtype)
    exchanges = cells(subject, kinds_of(subject, inside=True), seed=len(variant))
    sides = (record(subject, ids, neurons=True) for ids in (CORRUPT, CLEAN))
    found = patch(subject, *sides, exchanges, labels=labels)
    expected = [naive.patched_decision(subject, CORRUPT, CLEAN, exchange, labels) for exchange in exchanges]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("variant", HALVES)
def test_the_company_of_a_cell_or_prompt_changes_no_number(variant: str) -> None:
    subject, labels, rng = tiny(variant), labels_of(variant), np.random.default_rng(0)
    exchanges = cells(subject, kinds_of(subject, inside=True), seed=1)
    sides = [record(subject, ids, neurons=True) for ids in (CORRUPT, CLEAN)]
    together = patch(subject, *sides, exchanges, labels=labels)
    prompts = [tuple(rng.integers(3, 100, size=length).tolist()) for length in (1, 4, 4, 9, 9, 9, 13)]
    decided = measure_decisions(subject, prompts, labels).d
    for part in np.array_split(rng.permutation(len(exchanges)), 4):
        alone = patch(subject, *sides, [exchanges[number] for number in part], labels=labels)
        np.testing.assert_allclose(alone, together[part], atol=1e-5, rtol=0)
    for part in np.array_split(rng.permutation(len(prompts)), 3):
        again = measure_decisions(subject, [prompts[number] for number in part], labels).d
        np.testing.assert_allclose(again, decided[part], atol=1e-5, rtol=0)


def _parts(width: int) -> list[tuple[Part, Callable[[Tensor, Tensor], Tensor]]]:
    """Directions, entries and features of an activation, and what exchanging them makes of own and donor's rows."""
    draw = torch.Generator().manual_seed(width)
    basis = torch.linalg.qr(torch.randn(width, 3, generator=draw)).Q.T.contiguous()
    encoder, decoder = (torch.randn(shape, generator=draw) / 2 for shape in ((width, 5), (5, width)))
    features = Features(encoder, torch.zeros(5), decoder, torch.zeros(5))
    some = torch.zeros(width).index_fill(0, torch.tensor([0, 3, 5]), 1)
    return [
        (Subspace(basis), lambda own, donors: own + (donors - own) @ basis.T @ basis),
        (Neurons((0, 3, 5)), lambda own, donors: own + (donors - own) * some),
        (features, lambda own, donors: own + ((donors @ encoder).relu() - (own @ encoder).relu()) @ decoder),
    ]


@pytest.mark.parametrize("variant", HALVES)
@pytest.mark.parametrize("direction", Direction)
def test_parts_of_activations_equal_plain_hooks(variant: str, direction: Direction) -> None:
    subject, labels = tiny(variant), labels_of(variant)
    recipient, donor = (CORRUPT, CLEAN) if direction is Direction.DENOISE else (CLEAN, CORRUPT)
    made, expected = [], []
    for number, one in enumerate(cells(subject, kinds_of(subject, inside=False), seed=len(variant))):
        donors = _rows(subject, donor, one)[list(one.donor)]
        part, become = _parts(donors.shape[1])[number % 3]
        made.append(one._replace(part=part))
        rows = naive.changed_logits(subject, recipient, [(one, lambda own, b=become, d=donors: b(own, d))])
        expected.append(naive.decision(rows, *labels))
    found = patch(subject, *(record(subject, ids, neurons=True) for ids in (recipient, donor)), made, labels=labels)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert np.ptp(expected) > 0.01
