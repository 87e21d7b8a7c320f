"""Models with hand-set weights: exact patching ranks the parts that do the work above all others, without a mistake."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from audit_service.domain.generation import generate
from audit_service.domain.labels import LabelTokens
from audit_service.domain.plan import Corruption, Direction, Tracing
from audit_service.domain.sites import ALL, Site, SiteKind
from tests import planted
from tests.examples import loan_denial
from tests.planted import CONJOINT, ONE_HEAD, REDUNDANT, Rule
from workers.engine.donors import record
from workers.engine.loading import Subject, load_subject
from workers.engine.patching import patch, patch_together
from workers.engine.positions import Exchange
from workers.engine.readout import decision_values
from workers.engine.tokens import encode_labels, encode_pair
from workers.engine.variants import Setting, trace_variant

LABELS = LabelTokens.single(favorable=(3,), unfavorable=(4,))
WITH, WITHOUT = 10, 11
"""Cue tokens that carry the signal and that do not."""
CLEAN, CORRUPT = (5, 17, WITH, 8, 21, 9), (5, 17, WITHOUT, 8, 21, 9)
EVERYWHERE = tuple(range(6))
CUE, DECISION = 2, 5
GAIN, BIAS = 1.5, -0.25
Place = tuple[int, int]


def _carrier(rule: Rule) -> Subject:
    return planted.carrier(rule, {WITH: 1.0, WITHOUT: 0.0}, LABELS, vocabulary=24, gain=GAIN, bias=BIAS)


def _d(subject: Subject, ids: tuple[int, ...], labels: LabelTokens = LABELS) -> float:
    return float(decision_values(subject, record(subject, ids).decision[None], labels))


def _effects(
    subject: Subject,
    exchanges: list[Exchange],
    *,
    recipient: tuple[int, ...] = CORRUPT,
    donor: tuple[int, ...] = CLEAN,
    labels: LabelTokens = LABELS,
) -> NDArray[np.float32]:
    found = patch(subject, record(subject, recipient), record(subject, donor), exchanges, labels=labels)
    return found - np.float32(_d(subject, recipient, labels))


def _heads(subject: Subject, length: int = 6) -> dict[Place, Exchange]:
    everywhere = tuple(range(length))
    places = itertools.product(range(subject.anatomy.layers), range(subject.anatomy.heads))
    return {place: Exchange(SiteKind.Z, *place, everywhere, everywhere) for place in places}


def _tokens(subject: Subject, kind: SiteKind, length: int = 6) -> dict[Place, Exchange]:
    places = itertools.product(range(subject.anatomy.layers), range(length))
    return {(layer, at): Exchange(kind, layer, None, (at,), (at,)) for layer, at in places}


def _auroc(effects: NDArray[np.float32], places: list[Place], truth: set[Place]) -> float:
    """Share of (part, no part) couples in which the part has the larger effect; ties count half."""
    part = np.array([place in truth for place in places])
    ours, others = np.abs(effects[part]), np.abs(effects[~part])
    wins = (ours[:, None] > others + 1e-5).mean() + 0.5 * (np.abs(ours[:, None] - others) <= 1e-5).mean()
    return float(wins)


@pytest.mark.parametrize(("rule", "value"), [(ONE_HEAD, 1), (REDUNDANT, 1), (CONJOINT, 1)])
def test_the_decision_value_is_the_rule_of_the_signal(rule: Rule, value: int) -> None:
    subject = _carrier(rule)
    assert _d(subject, CLEAN) == pytest.approx(BIAS + GAIN * value, abs=1e-4)
    assert _d(subject, CORRUPT) == pytest.approx(BIAS, abs=1e-4)


@pytest.mark.parametrize(
    ("rule", "denoised", "noised"), [(ONE_HEAD, GAIN, -GAIN), (REDUNDANT, GAIN, 0), (CONJOINT, 0, -GAIN)]
)
def test_each_planted_head_has_the_effects_of_its_rule_and_decoys_have_none(
    rule: Rule, denoised: float, noised: float
) -> None:
    subject = _carrier(rule)
    heads = _heads(subject)
    for recipient, donor, effect in ((CORRUPT, CLEAN, denoised), (CLEAN, CORRUPT, noised)):
        found = _effects(subject, list(heads.values()), recipient=recipient, donor=donor)
        expected = [effect if place in rule.heads else 0.0 for place in heads]
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("rule", [REDUNDANT, CONJOINT])
def test_two_heads_together_are_the_whole_effect(rule: Rule) -> None:
    subject = _carrier(rule)
    heads = _heads(subject)
    both = [heads[place] for place in rule.heads]
    found = patch_together(subject, record(subject, CORRUPT), record(subject, CLEAN), [both], labels=LABELS)
    assert found[0] == pytest.approx(BIAS + GAIN, abs=1e-4)


def test_decoys_are_busy_although_nothing_reads_them() -> None:
    subject = _carrier(REDUNDANT)
    clean, corrupt = record(subject, CLEAN), record(subject, CORRUPT)
    for layer in range(planted.LAYERS):
        moved = (clean.z[layer] - corrupt.z[layer]).view(6, planted.HEADS, -1)[DECISION].abs().amax(1)
        assert moved.min() > 1e-3
        assert (clean.mlp_out[layer] - corrupt.mlp_out[layer]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", [SiteKind.RESID_PRE, SiteKind.ATTN_OUT, SiteKind.MLP_OUT, SiteKind.Z])
def test_patching_ranks_the_parts_of_the_planted_head_first(kind: SiteKind) -> None:
    subject = _carrier(ONE_HEAD)
    truth = {
        SiteKind.RESID_PRE: {(0, CUE), (1, CUE), (2, DECISION)},
        SiteKind.ATTN_OUT: {(1, DECISION)},
        SiteKind.MLP_OUT: {(2, DECISION)},
        SiteKind.Z: {(1, 2)},
    }[kind]
    places = _heads(subject) if kind is SiteKind.Z else _tokens(subject, kind)
    found = _effects(subject, list(places.values()))
    assert _auroc(found, list(places), truth) == 1.0
    assert all(found[list(places).index(place)] == pytest.approx(GAIN, abs=1e-4) for place in truth)


REPEATED = (5, 8, 13, 2, 6, 8)
"""8 was followed by 13; 8 stands last, so 13 comes next."""
OTHER = (5, 7, 13, 2, 6, 8)
"""8 has not stood before."""
NEXT = LabelTokens.single(favorable=(13,), unfavorable=(2,))


def test_the_induction_model_continues_what_it_has_seen() -> None:
    subject = planted.induction()
    for a, b, x in ((8, 13, 2), (3, 9, 20), (17, 4, 11)):
        with torch.no_grad():
            logits = subject.model(torch.tensor([[5, a, b, x, 6, a]])).logits[0, -1]
        assert int(logits.argmax()) == b


def test_patching_ranks_the_parts_of_the_induction_circuit_first() -> None:
    """The note is written at the position behind the first 8, and read at the last."""
    subject = planted.induction()
    heads = _heads(subject)
    found = _effects(subject, list(heads.values()), recipient=OTHER, donor=REPEATED, labels=NEXT)
    assert _auroc(found, list(heads), {(0, 1), (1, 2)}) == 1.0
    stream = _tokens(subject, SiteKind.RESID_PRE)
    found = _effects(subject, list(stream.values()), recipient=OTHER, donor=REPEATED, labels=NEXT)
    assert _auroc(found, list(stream), {(0, 1), (1, 2)}) == 1.0


MARKED, UNMARKED = (5, 9, 13), (6, 7, 8)


def test_the_compiled_fraction_model_computes_its_program() -> None:
    subject = planted.fraction(MARKED, LABELS)
    for ids in ((5, 6, 7, 8), (5, 9, 7, 13, 6), (6, 7)):
        share = sum(token in MARKED for token in ids) / len(ids)
        assert _d(subject, ids) == pytest.approx(8 * share, abs=1e-4)


@pytest.mark.parametrize("kind", [SiteKind.RESID_PRE, SiteKind.ATTN_OUT, SiteKind.MLP_OUT, SiteKind.Z])
def test_patching_ranks_the_parts_of_the_compiled_model_first(kind: SiteKind) -> None:
    subject = planted.fraction(MARKED, LABELS)
    corrupt, clean = (6, 7, 6, 8, 7, 6), (6, 7, 9, 8, 7, 6)
    truth = {
        SiteKind.RESID_PRE: {(0, CUE), (1, CUE), (2, DECISION)},
        SiteKind.ATTN_OUT: {(1, DECISION)},
        SiteKind.MLP_OUT: {(0, CUE), (2, DECISION)},
        SiteKind.Z: {(1, 3)},
    }[kind]
    places = _heads(subject) if kind is SiteKind.Z else _tokens(subject, kind)
    found = _effects(subject, list(places.values()), recipient=corrupt, donor=clean)
    assert _auroc(found, list(places), truth) == 1.0
    assert found.max() == pytest.approx(8 / 6, abs=1e-4)


@pytest.mark.parametrize(("rule", "direction", "effect"), [(REDUNDANT, "denoise", GAIN), (CONJOINT, "noise", -GAIN)])
def test_a_saved_model_carries_a_behaviors_cues_to_its_answer(
    tmp_path: Path, rule: Rule, direction: Direction, effect: float
) -> None:
    behavior = loan_denial().behavior
    attribute = behavior.attributes[0]
    cues = attribute.groups[attribute.reference].values()
    signal = {cue: 1.0 for stratum in cues for cue in stratum}
    subject = load_subject(planted.save_carrier(tmp_path, behavior, rule, signal, gain=GAIN, bias=BIAS), device="cpu")
    labels = encode_labels(subject.tokenizer, behavior.labels)
    sites = [Site(SiteKind.Z, layer, head, ALL) for layer, head in _heads(subject)]
    for pair in generate(behavior).pairs[::25]:
        setting = Setting(Direction(direction), Corruption.PAIR, Tracing(), all_readouts=False)
        encoded = encode_pair(subject.tokenizer, pair)
        found = trace_variant(subject, encoded, [site.parts for site in sites], setting, labels=labels)
        moved = pair.reference_group != pair.comparison_group
        own = found.d_corrupt if direction == "denoise" else found.d_clean
        assert found.d_clean - found.d_corrupt == pytest.approx(GAIN * moved, abs=1e-4)
        expected = [effect * moved if (site.layer, site.head) in rule.heads else 0 for site in sites]
        np.testing.assert_allclose(found.patched - own, expected, atol=1e-4)
