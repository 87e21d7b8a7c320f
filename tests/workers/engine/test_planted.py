"""A model with a planted circuit: exact patching finds its parts, and nothing else."""

import itertools

import numpy as np
import pytest
import torch

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from tests.workers.engine.models import tiny
from workers.engine.donors import record
from workers.engine.loading import Subject
from workers.engine.patching import patch
from workers.engine.positions import Exchange
from workers.engine.readout import decision_values
from workers.engine.screening import screen

CLEAN, CORRUPT = (5, 17, 33, 8, 21, 60), (5, 17, 44, 8, 21, 60)
CUE, DECISION, LENGTH = 2, 5, 6
LABELS = LabelTokens.single(favorable=(3, 11), unfavorable=(12,))
EVERYWHERE = tuple(range(LENGTH))
HEAD_LAYER, HEAD, MLP_LAYER = 1, 2, 2


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma2-sliding-softcap"])
def planted(request: pytest.FixtureRequest) -> Subject:
    """All parts write nothing, but one head, which carries the cue to the decision, and one MLP behind it."""
    subject = tiny(request.param)
    with torch.no_grad():
        for layer, block in enumerate(subject.anatomy.blocks):
            silent = [] if layer == HEAD_LAYER else [block.out_proj]
            silent += [] if layer == MLP_LAYER else [block.mlp_out]
            for parameter in (parameter for module in silent for parameter in module.parameters()):
                parameter.zero_()
        _silence_neighbours(subject.anatomy.blocks[HEAD_LAYER].out_proj, subject.anatomy.heads)
    return subject


def _silence_neighbours(out_proj: torch.nn.Module, heads: int) -> None:
    weight = out_proj.get_parameter("weight")
    from_z = weight if type(out_proj).__name__ == "Conv1D" else weight.T
    from_z.unflatten(0, (heads, -1))[[head for head in range(heads) if head != HEAD]] = 0


def _effects(subject: Subject, exchanges: list[Exchange]) -> np.ndarray:
    recipient = record(subject, CORRUPT)
    own = float(decision_values(subject, recipient.decision[None], LABELS))
    return patch(subject, recipient, record(subject, CLEAN), exchanges, labels=LABELS) - own


def _total(subject: Subject) -> float:
    clean, corrupt = (record(subject, ids).decision for ids in (CLEAN, CORRUPT))
    values = decision_values(subject, torch.stack([clean, corrupt]), LABELS)
    return float(values[0] - values[1])


def test_the_planted_head_alone_has_an_effect_and_it_is_the_whole_one(planted: Subject) -> None:
    places = list(itertools.product(range(3), range(4)))
    found = _effects(planted, [Exchange(SiteKind.Z, layer, head, EVERYWHERE, EVERYWHERE) for layer, head in places])
    at = places.index((HEAD_LAYER, HEAD))
    assert found[at] == pytest.approx(_total(planted), abs=1e-5)
    assert abs(found[at]) > 1e-2
    np.testing.assert_allclose(np.delete(found, at), 0, atol=1e-5)


def test_the_cue_acts_up_to_the_planted_head_and_the_decision_behind_it(planted: Subject) -> None:
    places = list(itertools.product(range(3), EVERYWHERE))
    found = _effects(planted, [Exchange(SiteKind.RESID_PRE, layer, None, (at,), (at,)) for layer, at in places])
    carries = np.array([at == (CUE if layer <= HEAD_LAYER else DECISION) for layer, at in places])
    np.testing.assert_allclose(found[carries], _total(planted), atol=1e-5)
    np.testing.assert_allclose(found[~carries], 0, atol=1e-5)


def test_only_the_planted_mlp_at_the_decision_has_an_effect(planted: Subject) -> None:
    places = list(itertools.product(range(3), EVERYWHERE))
    found = np.abs(_effects(planted, [Exchange(SiteKind.MLP_OUT, layer, None, (at,), (at,)) for layer, at in places]))
    at = places.index((MLP_LAYER, DECISION))
    assert found[at] > 1e-3
    assert np.delete(found, at).max() < 1e-5


def test_screening_verifies_the_planted_head_first(planted: Subject) -> None:
    places = list(itertools.product(range(3), range(4)))
    sites = [Exchange(SiteKind.Z, layer, head, EVERYWHERE, EVERYWHERE) for layer, head in places]
    recipient, donor = record(planted, CORRUPT), record(planted, CLEAN)
    found = screen(planted, recipient, donor, sites, labels=LABELS, top=1, sample=3, threshold=0.01, seed=0)
    assert places[found.verified[0]] == (HEAD_LAYER, HEAD)
    assert found.exact[0] == pytest.approx(_total(planted), abs=1e-5)
