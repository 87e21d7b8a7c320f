"""A pair's sweep tells where it is, and ends when it is asked to, whatever is put in and whatever is read."""

from dataclasses import replace

import pytest

from audit_service.domain.plan import Corruption, Direction, Tracing
from audit_service.domain.sites import Site, SiteKind
from audit_service.errors import Cancelled
from tests.workers.engine.models import tiny
from tests.workers.engine.test_distributions import LABELS, PAIR
from workers.engine.shelves import Memory
from workers.engine.variants import Setting, trace_variant

SETS = [Site(SiteKind.MLP_OUT, layer, None, where).parts for layer in range(3) for where in ("cue", "after")]
TRACED = sorted(set(Corruption) - {Corruption.POSITIONAL_MEAN})


@pytest.mark.parametrize("all_readouts", [False, True])
@pytest.mark.parametrize("corruption", TRACED)
def test_progress_only_grows_and_a_stop_between_two_flights_ends_the_sweep(
    corruption: Corruption, *, all_readouts: bool
) -> None:
    subject = replace(tiny("llama"), memory=Memory(device=0, host=1 << 30, flight=20_000))
    setting = Setting(Direction.NOISE, corruption, Tracing(noise_draws=3), all_readouts)
    told: list[float] = []

    def note(done: int, total: int, _: float) -> None:
        told.append(done / total)

    def trace(stop_at: float) -> None:
        told.clear()
        trace_variant(
            subject, PAIR, SETS, setting, labels=LABELS, others=[PAIR.corrupt], progress=note,
            should_stop=lambda: bool(told) and told[-1] >= stop_at,
        )  # fmt: skip

    trace(stop_at=2)
    assert told == sorted(told)
    assert told[-1] == 1
    assert len(told) > 3
    flights = len(told)
    with pytest.raises(Cancelled):
        trace(stop_at=0.5)
    assert len(told) < flights
    assert told[-1] < 1
