"""A budget buys coarse looks before fine ones, and serves the riskiest behavior first."""

from itertools import pairwise, product

import pytest

from audit_service.domain.budget import Budget, Price
from audit_service.domain.ladder import Ladder, climb, ladder
from audit_service.domain.plan import Corruption, Direction, Tracing
from audit_service.domain.sites import Site, SiteKind, site_grid

FULL = Tracing(
    kinds=(SiteKind.Z, SiteKind.RESID_PRE, SiteKind.MLP_OUT, SiteKind.V),
    corruptions=(Corruption.ZERO, Corruption.PAIR, Corruption.MEAN),
    windows=(1, 3),
    joint_sites=4,
)


def sites(tracing: Tracing, layers: int = 16) -> set[Site]:
    return set(
        site_grid(tracing.kinds, layers=layers, heads=2, segments=tracing.segments, windows=tracing.windows,
                  steps=tracing.layer_steps)
    )  # fmt: skip


def test_each_rung_patches_all_that_the_one_before_does_and_more() -> None:
    rungs = ladder(FULL, layers=16)
    for one, next_one in pairwise(rungs):
        both = one.tracing, next_one.tracing
        fewer, more = ((set(product(sites(tracing), tracing.corruptions)), tracing.joint_sites) for tracing in both)
        assert fewer[0] <= more[0]
        assert fewer != more
    assert rungs[-1].tracing == FULL
    assert Tracing.model_validate_json(rungs[0].tracing.model_dump_json()) == rungs[0].tracing


def test_the_order_is_stream_parts_heads_and_their_insides_each_from_coarse_to_fine() -> None:
    assert [rung.adds for rung in ladder(FULL, layers=16)] == [
        *(f"{kind}: every {layers}" for kind in ("resid_pre", "mlp_out", "z", "v")
          for layers in ("fourth layer", "second layer", "layer")),
        "corruption zero", "corruption mean", "windows of 3 layers", "4 leading sites two by two",
    ]  # fmt: skip
    first = ladder(FULL, layers=16)[0].tracing
    assert {site.layer for site in sites(first)} == {0, 4, 8, 12}
    assert first.corruptions == (Corruption.PAIR,)


def test_pairs_directions_and_segments_are_never_cut() -> None:
    for rung in ladder(FULL, layers=16):
        kept = (rung.tracing.directions, rung.tracing.segments, rung.tracing.pairs_per_form, rung.tracing.seed)
        assert kept == (tuple(Direction), FULL.segments, FULL.pairs_per_form, FULL.seed)


def test_few_layers_are_patched_at_once_and_steps_that_were_asked_for_are_kept() -> None:
    assert [rung.adds for rung in ladder(Tracing(kinds=(SiteKind.Z,)), layers=7)] == ["z: every layer"]
    asked = Tracing(kinds=(SiteKind.Z,), layer_steps={SiteKind.Z: 2})
    assert [rung.tracing.layer_steps for rung in ladder(asked, layers=8)] == [{SiteKind.Z: 4}, {SiteKind.Z: 2}]
    assert ladder(Tracing(kinds=()), layers=8)[-1].tracing.kinds == ()


def prices(*passes: float) -> list[Price]:
    return [Price(forward_equivalents=count) for count in passes]


def reached(ladders: list[Ladder], passes: float) -> list[int | None]:
    return climb(ladders, Budget(forward_equivalents=passes))


def test_one_audit_climbs_as_far_as_its_budget_reaches() -> None:
    one = [Ladder("high", prices(10, 20, 40))]
    assert [reached(one, passes) for passes in (9.9, 10, 39, 40, 1000)] == [[None], [0], [1], [2], [2]]


def test_a_coarse_look_at_all_comes_before_a_finer_one_at_the_riskiest() -> None:
    two = [Ladder("low", prices(10, 20)), Ladder("high", prices(10, 20))]
    assert reached(two, 10) == [None, 0]
    assert reached(two, 20) == [0, 0]
    assert reached(two, 30) == [0, 1]
    assert reached(two, 40) == [1, 1]


def test_whoever_cannot_pay_leaves_the_rest_to_others() -> None:
    two = [Ladder("high", prices(10, 100, 101)), Ladder("medium", prices(10, 20, 30))]
    assert reached(two, 50) == [0, 2]


@pytest.mark.parametrize(
    ("rating", "served"), [("critical", True), ("High", False), ("unheard of", False), ("low", False)]
)
def test_ratings_are_served_in_their_order_and_unknown_ones_as_high(rating: str, *, served: bool) -> None:
    both = [Ladder("high", prices(10)), Ladder(rating, prices(10))]
    assert reached(both, 10) == ([None, 0] if served else [0, None])
