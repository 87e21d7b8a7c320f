"""What an auditor repeats agrees with what was stored, and one changed cell of any kind is found."""

from dataclasses import replace

import numpy as np
import pytest

from audit_service.domain.behaviors import Answer
from audit_service.domain.pairs import Pair
from audit_service.domain.plan import Corruption
from audit_service.domain.readings import BUILT_IN
from audit_service.domain.tables import Tables
from tests.planted import REDUNDANT
from tests.workers.planted_audits import changed, measured, planted
from workers.reperforming import Repetition, _apart


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Repetition, Tables, Pair]:
    """A run with everything that a bundle can hold, and a pair of which all of it was measured."""
    options = {"joint_sites": 2, "pairs_per_form": 2, "placebo_pairs_per_form": 0, "windows": (1, 2)}
    made, pairs, network = planted(tmp_path_factory.mktemp("model"), REDUNDANT, **options)
    answers = {"cheap": Answer(spellings=(" Yes",), amount=1), "dear": Answer(spellings=(" No",), amount=3)}
    corruptions = tuple(one for one in Corruption if one is not Corruption.POSITIONAL_MEAN)  # no plan has it
    plan = changed(
        made,
        behavior=made.behavior.model_copy(update={"answers": answers}),
        metrics=BUILT_IN,
        pairs_per_shard=8,
        tracing=made.tracing.model_copy(update={"all_readouts": True, "corruptions": corruptions}),
    )
    tables = measured(plan, pairs, network)
    return Repetition(network, plan, pairs), tables, tables.joint[0].alone.pairs[0]


def test_everything_that_was_measured_of_a_pair_is_repeated_and_agrees(whole: tuple[Repetition, Tables, Pair]) -> None:
    repetition, tables, pair = whole
    found = list(repetition.all_of(pair, tables))
    variants = [table.key.removeprefix("raw.") for table in tables.effects]
    assert len(variants) == 2 * (3 * 2 + 2)  # two widths; three corruptions both ways, mean and zero by noising alone
    assert [one.what for one in found] == ["decisions", *variants, "denoise.joint", "noise.joint"]
    assert all(one.holds for one in found)
    decisions = found[0]
    assert decisions.cells == 2 * (3 + len({"rank", "log_p_of_cheap", "log_p_of_dear"}))
    sites = len(tables.effects[0].sites)
    kept = {"log_p_favorable", "log_p_unfavorable", "rank", "kl", "js", "log_p_of_cheap", "log_p_of_dear"}
    assert found[1].cells == sites + 2 + len(kept) * (sites + 2)


@pytest.mark.parametrize("name", ["log_p_unfavorable", "rank", "log_p_of_dear"])
def test_a_changed_decision_is_found(whole: tuple[Repetition, Tables, Pair], name: str) -> None:
    repetition, tables, pair = whole
    row = tables.decisions.pairs.index(pair)
    if name in tables.decisions.readouts:
        cells = tables.decisions.readouts[name].copy()
        cells[row, 1] += 3
        table = replace(tables.decisions, readouts={**tables.decisions.readouts, name: cells})
    else:
        cells = getattr(tables.decisions, name).copy()
        cells[row, 1] += 3
        table = replace(tables.decisions, **{name: cells})
    found = repetition.decisions(pair, table)
    assert (found.holds, found.widest) == (False, name)


def test_a_changed_effect_readout_or_joint_cell_is_found(whole: tuple[Repetition, Tables, Pair]) -> None:
    repetition, tables, pair = whole
    table = next(one for one in tables.effects if one.corruption is Corruption.RESAMPLE)
    row = table.pairs.index(pair)
    for name in ("kl", "log_p_of_cheap"):
        cells = table.readouts[name].copy()
        cells[row, 0] += 0.01
        found = repetition.effects(pair, replace(table, readouts={**table.readouts, name: cells}))
        assert (found.holds, found.widest) == (False, name)
        assert found.deviation == pytest.approx(0.01, abs=1e-4)
    joint = tables.joint[1]
    cells = joint.together.copy()
    cells[joint.alone.pairs.index(pair), 0] -= 0.5
    found = repetition.joint(pair, replace(joint, together=cells))
    assert (found.holds, found.widest, found.cells) == (False, "together", 1)


def test_a_rank_may_differ_by_one_place_and_a_share_of_itself() -> None:
    stored, again = np.array([1.0, 40_000.0]), np.array([2.0, 40_005.0])
    assert _apart("rank", stored, again) == pytest.approx(4 / 40_005)
    assert _apart("d", np.array([1.0, 2.0]), np.array([1.5, 2.0])) == pytest.approx(0.5, abs=1e-5)
    assert _apart("d", np.array([128.0]), np.array([128.0002])) == 0  # 13 steps of float32
    assert _apart("d", np.array([np.nan]), np.array([np.nan])) == 0
    assert _apart("d", np.array([np.nan]), np.array([1.0])) == np.inf
