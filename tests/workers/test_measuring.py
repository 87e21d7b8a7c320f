"""A plan's cells inside attention: the sites that grouped queries have, of pairs that have counterparts."""

import re

import numpy as np
import pytest

from audit_service.domain.generation import generate
from audit_service.domain.pairs import PairSet
from audit_service.domain.plan import Corruption, Direction, Judging, Mapping, Plan, ShardKind, Tracing
from audit_service.domain.planning import compose
from audit_service.domain.shards import shards
from audit_service.domain.sites import ALL, KV_KINDS, POSITIONED, SiteKind
from audit_service.errors import InvalidTrace
from audit_service.registry.inspection import inspect
from audit_service.registry.spans import unequal_spans
from tests.domain.made import behavior
from tests.tiny_model import save_tiny_model
from tests.workers.engine import naive
from tests.workers.engine.models import tiny
from tests.workers.planted_audits import changed
from workers.engine.loading import Subject, load_subject
from workers.engine.positions import Exchange
from workers.engine.tokens import labels_of, prompts_of
from workers.measuring import effect_cells, require_sites

KINDS = (SiteKind.Q, SiteKind.K, SiteKind.V, SiteKind.PATTERN)


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, PairSet, Subject]:
    """A tiny Llama of four query heads and two heads of keys and values."""
    known = behavior()
    folder = save_tiny_model(tmp_path_factory.mktemp("model"), known, layers=2)
    # Names that the tokenizer was not made of fall into more tokens.
    subject = type(known).model_validate_json(re.sub(r"black(\d*[02468])\b", r"quince\1", known.model_dump_json()))
    pairs = generate(subject)
    tracing = Tracing(kinds=KINDS, mapping=Mapping.EQUAL_ONLY, pairs_per_form=2, placebo_pairs_per_form=0)
    plan = compose(
        inspect(folder, name="tiny", version="1", dtype="float32"),
        subject,
        pairs,
        tracing=tracing,
        judging=Judging(delta_nats=0.1),
        unequal=unequal_spans(folder, pairs.pairs),
    )
    return plan, pairs, load_subject(folder, device="cpu")


def test_only_pairs_of_equal_spans_are_traced(composed: tuple[Plan, PairSet, Subject]) -> None:
    plan, pairs, subject = composed
    equal = {pair.id for pair in pairs.pairs if prompts_of(subject, pair).equal_spans}
    assert 0 < len(equal) < len(pairs.pairs)
    traced = [shard for shard in shards(plan, pairs) if shard.kind is ShardKind.EFFECTS]
    assert {pair for shard in traced for pair in shard.pair_ids} == set(plan.traced) <= equal
    assert plan.pair_set.unequal_spans == pytest.approx(1 - len(equal) / len(pairs.pairs))


@pytest.mark.parametrize("direction", Direction)
def test_every_cell_inside_attention_equals_plain_hooks(
    composed: tuple[Plan, PairSet, Subject], direction: Direction
) -> None:
    plan, pairs, subject = composed
    heads = dict.fromkeys(KINDS, 4) | dict.fromkeys(KV_KINDS, 2)
    assert [(site.kind, site.layer, site.head) for site in plan.sites] == [
        (kind, layer, head) for kind in KINDS for layer in range(2) for head in range(heads[kind])
    ]
    pair = prompts_of(subject, next(pair for pair in pairs.pairs if pair.id == plan.traced[0]))
    cells = effect_cells(
        subject, plan, [pair], [site.parts for site in plan.sites], direction=direction,
        corruption=Corruption.PAIR, partners={}, all_readouts=False,
    )  # fmt: skip
    denoise = direction is Direction.DENOISE
    to, by = (pair.corrupt, pair.clean) if denoise else (pair.clean, pair.corrupt)
    everywhere = tuple(range(len(to.ids)))
    labels = labels_of(subject, plan.behavior.labels)
    expected = [
        naive.patched_decision(
            subject, to.ids, by.ids, Exchange(site.kind, site.layer, site.head, everywhere, everywhere), labels
        )
        for site in plan.sites
    ]
    np.testing.assert_allclose(cells.patched[0], expected, atol=1e-4, rtol=0)
    own = cells.d_corrupt if denoise else cells.d_clean
    assert np.abs(cells.patched[0] - own).max() > 0.01
    assert {site.segment for site in plan.sites} == {ALL}


def test_sites_that_the_family_does_not_show_are_refused_before_anything_is_measured(
    composed: tuple[Plan, PairSet, Subject],
) -> None:
    plan, _, subject = composed
    require_sites(subject, plan)
    with pytest.raises(InvalidTrace, match="attend by their own means, which show no q"):
        require_sites(tiny("bloom-alibi"), plan)


def test_a_model_of_other_heads_than_its_configuration_said_is_refused(
    composed: tuple[Plan, PairSet, Subject],
) -> None:
    plan, _, subject = composed
    told = plan.model.model_copy(update={"kv_heads": 1})
    with pytest.raises(InvalidTrace, match="2 heads of k, not 1, 2 heads of v, not 1"):
        require_sites(subject, changed(plan, model=told))
    with pytest.raises(InvalidTrace, match="2 layers, not 1"):
        require_sites(subject, changed(plan, model=plan.model.model_copy(update={"layers": 1})))


def test_kinds_that_carry_positions_are_those_that_the_engine_refuses_elsewhere() -> None:
    assert set(KINDS) - {SiteKind.V} == POSITIONED
