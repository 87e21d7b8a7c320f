"""How much of a change of prompt goes through one site, and how much passes it by (Vig et al. 2020, section 3).

The treatment is the change from the clean to the corrupt prompt, the mediator is the site's activation, the outcome is
d. Effects are differences of d in nats; exp(effect) - 1 is Vig's relative change of the odds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Mediation:
    """Effects of the change of prompt, in nats; indirect + direct = total only where the two do not interact."""

    total: float
    """d of the corrupt prompt minus d of the clean one."""
    direct: NDArray[np.float32]
    """[site] natural direct effect: the corrupt prompt with the site held as under the clean one, minus d clean."""
    indirect: NDArray[np.float32]
    """[site] natural indirect effect: the clean prompt with the site as under the corrupt one, minus d clean."""

    @property
    def interaction(self) -> NDArray[np.float32]:
        """[site] total - direct - indirect: what only both ways together do."""
        found: NDArray[np.float32] = self.total - self.direct - self.indirect
        return found


def mediate(
    denoised: NDArray[np.float32], noised: NDArray[np.float32], *, d_clean: float, d_corrupt: float
) -> Mediation:
    """Effects from the patched decision values [site] of both directions (``domain.trace.EffectCells``)."""
    return Mediation(total=d_corrupt - d_clean, direct=denoised - d_clean, indirect=noised - d_clean)
