import numpy as np
import pytest

from audit_service.domain.cells import EffectTable
from audit_service.domain.contrasts import contrasts
from audit_service.domain.interplay import Asymmetry, Part, asymmetries, super_additivity
from audit_service.domain.judgement import judge
from audit_service.domain.plan import Direction
from audit_service.domain.sentences import english
from audit_service.domain.uncertainty import Clusters
from tests.domain.made import PASSED, audit, decisions, effects, noisy

ONE, BACKUP, TEAM = "attn_out.L1.cue", "attn_out.L2.cue", "mlp_out.L3.decision"
ALONE = {ONE: 0.9, BACKUP: 0.9, TEAM: 0.05}
"""Shares restored by denoising: either of the backups is enough, the team player alone is not."""
MISSING = {ONE: 0.05, BACKUP: 0.05, TEAM: 0.9}
"""Shares lost by noising: without one backup the other stands in."""


def tables(*, noise: float = 0.01) -> tuple[EffectTable, EffectTable]:
    plan, pairs = audit()
    [contrast] = contrasts(decisions(pairs.pairs, noisy(0.4)), plan.behavior)
    return (
        effects(plan, contrast.table, Direction.DENOISE, shares=ALONE, noise=noise),
        effects(plan, contrast.table, Direction.NOISE, shares=MISSING, noise=noise),
    )


def found(denoise: EffectTable, noise: EffectTable) -> dict[str, Asymmetry]:
    keys = [site.key for site in denoise.sites]
    named = [keys.index(key) for key in (ONE, BACKUP, TEAM, "attn_out.L0.cue")]
    seen = asymmetries(denoise, noise, named, alpha=0.05, resamples=2000, seed=1)
    return {keys[one.site]: one for one in seen}


def test_backups_are_or_like_and_team_players_and_like() -> None:
    labels = {key: one.part for key, one in found(*tables()).items()}
    assert labels[ONE] is labels[BACKUP] is Part.OR_LIKE
    assert labels[TEAM] is Part.AND_LIKE


def test_the_shares_are_ratios_of_means_in_either_direction() -> None:
    denoise, noise = tables(noise=0.0)
    one = found(denoise, noise)[ONE]
    assert (one.sufficient, one.needed) == pytest.approx((0.9, 0.05), abs=1e-5)
    assert one.difference.value == pytest.approx(0.85, abs=1e-5)


def test_pairs_that_one_direction_lacks_take_no_part() -> None:
    denoise, noise = tables()
    kept = np.arange(len(noise.pairs)) % 3 > 0
    shuffled = noise.select(kept)
    np.testing.assert_allclose(
        found(denoise, shuffled)[ONE].difference.value, found(denoise.select(kept), shuffled)[ONE].difference.value
    )


def test_a_site_that_counteracts_is_labelled_by_the_size_of_its_shares() -> None:
    denoise, noise = tables()
    plan, _ = audit()
    against = {key: -share for key, share in ALONE.items()}
    table = decisions(denoise.pairs, lambda _: 0.0)
    table.d[:, 0], table.d[:, 1] = denoise.d_clean, denoise.d_corrupt
    negative = (
        effects(plan, table, Direction.DENOISE, shares=against, noise=0.01),
        effects(plan, table, Direction.NOISE, shares={key: -share for key, share in MISSING.items()}, noise=0.01),
    )
    assert {key: one.part for key, one in found(*negative).items()} == {
        key: one.part for key, one in found(denoise, noise).items()
    }


def test_the_judge_says_which_named_sites_have_backups() -> None:
    plan, pairs = audit()
    table = decisions(pairs.pairs, noisy(0.4))
    traced = [
        effects(plan, table, direction, shares=shares, noise=0.01)
        for direction, shares in ((Direction.DENOISE, ALONE), (Direction.NOISE, MISSING))
    ]
    said = [english(one) for one in judge(plan, table, traced, [PASSED]).statements]
    assert [one for one in said if "OR-like" in one and (ONE in one or BACKUP in one)]
    assert [one for one in said if "AND-like" in one and TEAM in one]


@pytest.mark.parametrize(("joint", "low", "high"), [(0.9, 0.25, 0.35), (0.6, -0.05, 0.05), (0.3, -0.35, -0.25)])
def test_super_additivity_is_the_joint_effect_minus_the_sum_of_the_parts(joint: float, low: float, high: float) -> None:
    rng = np.random.default_rng(3)
    parts = np.full((60, 2), 0.3) + rng.normal(0, 0.02, (60, 2))
    together = joint + rng.normal(0, 0.02, 60)
    clusters = Clusters.of([str(index // 3) for index in range(60)])
    excess = super_additivity(together, parts, clusters, alpha=0.05, resamples=2000, seed=1, name="a+b")
    assert excess.value == pytest.approx((together - parts.sum(axis=1)).mean())
    assert low < excess.low < excess.value < excess.high < high
