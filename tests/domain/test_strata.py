import numpy as np
import pytest

from audit_service.domain.contrasts import contrasts
from audit_service.domain.pairs import Pair
from audit_service.domain.results import Result
from audit_service.domain.strata import strata_rows
from tests.domain.made import audit, decisions, noisy


def is_male(pair: Pair) -> bool:
    return int(pair.reference_cue[5:]) >= 12


def rows(women: float, men: float, *, declared: bool = True) -> dict[str, Result]:
    plan, pairs = audit(names=24)
    noise = noisy(0.0, spread=0.05, seed=4)
    table = decisions(pairs.pairs, lambda pair: noise(pair) + (men if is_male(pair) else women))
    [contrast] = contrasts(table, plan.behavior)
    subject = plan.behavior if declared else audit(names=2)[0].behavior
    return {row.key: row for row in strata_rows(contrast, behavior=subject, judging=plan.judging)}


def test_each_stratum_has_its_own_gap() -> None:
    found = rows(0.5, 0.1)
    women, men = (found[f"raw.race.black.{name}.gap_nats"] for name in ("female", "male"))
    assert women.low < 0.5 < women.high
    assert men.low < 0.1 < men.high
    assert women.n == men.n == 24


def test_the_interaction_is_the_difference_of_the_gaps() -> None:
    found = rows(0.5, 0.1)
    interaction = found["raw.race.black.interaction.female.male"]
    gaps = [found[f"raw.race.black.{name}.gap_nats"].value for name in ("female", "male")]
    assert interaction.value == pytest.approx(gaps[0] - gaps[1])
    assert interaction.low > 0


def test_equal_gaps_show_no_interaction() -> None:
    interaction = rows(0.3, 0.3)["raw.race.black.interaction.female.male"]
    assert interaction.low < 0 < interaction.high


def test_the_interaction_has_the_standard_error_of_two_independent_means() -> None:
    found = rows(0.5, 0.1)
    errors = [
        (row.high - row.low) / 2 for row in (found[f"raw.race.black.{name}.gap_nats"] for name in ("female", "male"))
    ]
    interaction = found["raw.race.black.interaction.female.male"]
    assert (interaction.high - interaction.low) / 2 == pytest.approx(np.hypot(*errors), rel=0.15)


def test_cues_that_the_behavior_does_not_declare_have_no_stratum() -> None:
    assert rows(0.5, 0.1, declared=False) == {}
