import numpy as np
import pytest

from audit_service.domain.cells import DecisionTable, EffectTable, gap
from audit_service.domain.plan import Direction
from audit_service.domain.sites import Site, SiteKind
from audit_service.domain.trace import DecisionCells, EffectCells
from audit_service.errors import InvalidInput
from tests.domain.made import audit, decisions


def test_a_positive_gap_means_that_the_reference_group_is_favoured() -> None:
    assert gap(np.array([[2.0, 0.5]])) == 1.5


def test_shards_are_joined_in_the_order_of_their_pairs() -> None:
    _, pairs = audit()
    whole = decisions(pairs.pairs, lambda pair: len(pair.id))
    cut = 7
    parts = [
        DecisionCells(whole.d[rows], whole.log_p_favorable[rows], whole.log_p_unfavorable[rows])
        for rows in (slice(0, cut), slice(cut, None))
    ]
    joined = DecisionTable.of(pairs.pairs, parts)
    assert (joined.d == whole.d).all()
    assert (joined.log_p_unfavorable == whole.log_p_unfavorable).all()


def test_cells_that_do_not_fit_the_pairs_are_refused() -> None:
    _, pairs = audit()
    with pytest.raises(InvalidInput, match="d has shape"):
        DecisionTable.of(pairs.pairs, [])


def test_coverage_is_the_probability_on_both_answers() -> None:
    _, pairs = audit()
    table = decisions(pairs.pairs, lambda _: 1.0, share=0.7)
    np.testing.assert_allclose(table.coverage, 0.7, rtol=1e-6)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_decision_that_is_no_number_is_not_measured(broken: float) -> None:
    _, pairs = audit()
    table = decisions(pairs.pairs, lambda _: 1.0)
    table.d[3, 1] = broken
    measured = table.measured(min_coverage=0.5)
    assert not measured[3]
    assert measured.sum() == len(pairs.pairs) - 1


def test_log_probabilities_above_one_are_not_taken_for_coverage() -> None:
    _, pairs = audit()
    table = decisions(pairs.pairs, lambda _: 1.0)
    table.log_p_favorable[0, 0] = np.inf
    table.log_p_favorable[1, 0] = 5.0
    assert not table.measured(min_coverage=0.5)[:2].any()


def test_prompts_below_the_declared_coverage_are_not_measured() -> None:
    _, pairs = audit()
    table = decisions(pairs.pairs, lambda _: 1.0, share=0.4)
    assert not table.measured(min_coverage=0.5).any()
    assert table.measured(min_coverage=0.3).all()


def test_effects_are_patched_minus_the_unpatched_recipient() -> None:
    _, pairs = audit()
    cells = EffectCells(np.array([3.0], np.float32), np.array([1.0], np.float32), np.array([[1.5]], np.float32))
    sites = (Site(SiteKind.ATTN_OUT, 0, None, "cue"),)
    tables = {
        direction: EffectTable.of("raw", direction, pairs=pairs.pairs[:1], sites=sites, shards=[cells])
        for direction in Direction
    }
    assert tables[Direction.DENOISE].effects == 0.5
    assert tables[Direction.DENOISE].total == 2.0
    assert tables[Direction.NOISE].effects == -1.5
    assert tables[Direction.NOISE].total == -2.0
