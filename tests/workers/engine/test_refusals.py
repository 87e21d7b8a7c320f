"""What cannot be traced as asked is refused by name, before anything is computed.

Beside these: a model on the meta device (test_loading), labels outside the vocabulary, prompts over the context and
logits that are no numbers (test_decisions), sites between attention and MLP of parallel families (test_patching).
"""

import pytest

from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidTrace
from tests.workers.engine.models import tiny
from tests.workers.engine.test_matrix import labels_of
from tests.workers.engine.test_shelves import CLEAN, CORRUPT
from workers.engine.donors import record
from workers.engine.patching import patch
from workers.engine.positions import Exchange
from workers.engine.sweep import Asked, cells_named, free_pair, map_of
from workers.engine.wiring import Contrast

LONGER = (*CORRUPT[:3], 9, 9, *CORRUPT[3:])


def test_token_by_token_maps_of_prompts_of_unequal_length_are_refused() -> None:
    subject, pair = tiny("llama"), free_pair(CLEAN, LONGER)
    with pytest.raises(InvalidTrace, match="has 11 tokens and the other 9, so single positions have no counterpart"):
        map_of(subject, SiteKind.RESID_PRE, Asked(pair.corrupt, pair.clean), segments=None, window=1)


def test_tokens_by_number_in_prompts_of_unequal_length_are_refused() -> None:
    pair = free_pair(CLEAN, LONGER)
    with pytest.raises(InvalidTrace, match="tokens 3 to 4 are asked for in prompts of 11 and 9 tokens"):
        cells_named(["resid_pre.L1.t3-4"], Asked(pair.corrupt, pair.clean))


@pytest.mark.parametrize("kind", [SiteKind.Q, SiteKind.K, SiteKind.V, SiteKind.PATTERN])
@pytest.mark.parametrize("variant", ["bloom-alibi", "deberta-v2", "qwen3_5_text"])
def test_sites_that_a_family_does_not_show_are_refused(kind: SiteKind, variant: str) -> None:
    subject = tiny(variant)
    sides = record(subject, CORRUPT), record(subject, CLEAN)
    with pytest.raises(InvalidTrace, match=f"attend by their own means, which show no {kind}"):
        patch(subject, *sides, [Exchange(kind, 0, 0, (3,), (3,))], labels=labels_of(variant))


def test_heads_of_a_layer_that_has_none_are_refused_and_left_out_of_maps() -> None:
    """Qwen 3.5 mixes positions by a recurrence in most layers, here in all but the second."""
    subject, pair = tiny("qwen3_5_text"), free_pair(CLEAN, CORRUPT)
    found = map_of(subject, SiteKind.Z, Asked(pair.corrupt, pair.clean), segments=None, window=1)
    assert (found.rows, len(found.sets)) == (("L1",), 4)
    with pytest.raises(InvalidTrace, match="no 2 neighbouring layers all have heads"):
        map_of(subject, SiteKind.Z, Asked(pair.corrupt, pair.clean), segments=None, window=2)
    sides = record(subject, CORRUPT), record(subject, CLEAN)
    with pytest.raises(InvalidTrace, match="z at layer 2: the layer has 0 such heads"):
        patch(subject, *sides, [Exchange(SiteKind.Z, 2, 0, (3,), (3,))], labels=labels_of("llama"))


def test_circuits_of_layers_with_different_numbers_of_heads_are_refused() -> None:
    with pytest.raises(InvalidTrace, match="different numbers of heads"):
        Contrast(tiny("mimo_v2_flash"), CLEAN, CORRUPT, labels_of("llama"))
