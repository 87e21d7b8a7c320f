from itertools import pairwise, product

import pytest

from audit_service.domain.lifecycle import ACTIVE, ENDED, MOVES, TERMINAL, RunState, check_move
from audit_service.errors import Conflict

PATH = (RunState.QUEUED, RunState.RUNNING, RunState.JUDGING, RunState.REPORTING, RunState.COMPLETED)


def test_an_undisturbed_run_goes_from_the_queue_to_its_end() -> None:
    for present, to in pairwise(PATH):
        check_move(present, to)


@pytest.mark.parametrize(("present", "to"), list(product(RunState, RunState)))
def test_a_move_is_made_exactly_where_the_table_has_it(present: RunState, to: RunState) -> None:
    if to in MOVES[present]:
        check_move(present, to)
    else:
        with pytest.raises(Conflict, match=f"{present} cannot become {to}"):
            check_move(present, to)


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    assert set(MOVES) == set(RunState)
    assert set().union(*MOVES.values()) == set(RunState)


def test_whatever_has_not_ended_can_be_cancelled() -> None:
    assert {state for state in RunState if RunState.CANCELLED in MOVES[state]} == set(RunState) - TERMINAL


def test_states_without_a_way_out_are_the_terminal_ones() -> None:
    assert {state for state in RunState if not MOVES[state]} == TERMINAL


def test_a_state_is_either_moving_or_paused_or_ended() -> None:
    assert set(RunState) == ACTIVE | ENDED | {RunState.PAUSED}
    assert not ACTIVE & ENDED
    assert TERMINAL <= ENDED
