"""Total, direct and indirect effects on a model that can be done by hand."""

import numpy as np

from audit_service.domain.mediation import mediate


def _outcome(treatment: int, mediator: int) -> float:
    """A direct path of 1, a mediator worth 2, and 4 for both together."""
    return treatment + 2 * mediator + 4 * treatment * mediator


def test_direct_and_indirect_effects_hold_one_of_the_two_still() -> None:
    denoised, noised = (np.array([_outcome(*at)], np.float32) for at in ((1, 0), (0, 1)))
    found = mediate(denoised, noised, d_clean=_outcome(0, 0), d_corrupt=_outcome(1, 1))
    assert (found.total, found.direct.tolist(), found.indirect.tolist()) == (7, [1], [2])
    assert found.interaction.tolist() == [4]
