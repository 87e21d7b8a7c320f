import numpy as np
import pytest

from audit_service.domain.calibration import WORLDS, World, calibrate, draw, truth
from audit_service.domain.uncertainty import generator


@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_the_truth_of_a_world_is_what_a_very_large_audit_finds(gap: float) -> None:
    columns = draw(World(200_000, False, gap), generator(0, "large")).columns
    n = columns["n"].sum()
    found = {
        "mean gap": columns["gap"].mean(),
        "mean gap of p": columns["gap_pp"].mean(),
        "d_z": columns["gap"].mean() / columns["gap"].std(),
        "rate": columns["reference"].mean(),
        "ratio": columns["comparison"].sum() / columns["reference"].sum(),
        "net flips": (columns["lost"] - columns["gained"]).sum() / n,
        "gross flips": (columns["lost"] + columns["gained"]).sum() / n,
    }
    for name, value in truth(gap).items():
        assert found[name] == pytest.approx(value, abs=0.02 if name == "mean gap of p" else 0.004)


def test_worlds_have_the_clusters_that_they_name() -> None:
    for world in WORLDS:
        sizes = np.bincount(draw(world, generator(0)).clusters.codes)
        assert len(sizes) == world.clusters
        assert (len(set(sizes.tolist())) > 1) == world.unequal


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_intervals_cover_and_tests_keep_their_level_over_a_thousand_audits(world: World) -> None:
    unsound = [found for found in calibrate(audits=1000, worlds=[world]) if not found.sound]
    assert unsound == []
