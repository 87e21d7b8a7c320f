"""What a budget buys: from a coarse look at a few places to all that was asked for, each rung with all before it.

The order is fixed here, before any number is seen: pairs, directions and segments are never cut, since fewer pairs cost
power and one direction is half a statement. First the residual stream, then attention and MLP outputs, then heads and
what is inside them; of each first every fourth layer, then every second, then all; then the sensitivity corruptions in
their order, windows, and leading sites two by two.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from audit_service.domain.budget import Budget, Price
from audit_service.domain.manifest import Frozen
from audit_service.domain.plan import Corruption, Tracing
from audit_service.domain.sites import SiteKind

STAGES = (
    (SiteKind.RESID_PRE, SiteKind.RESID_MID, SiteKind.RESID_POST),
    (SiteKind.ATTN_OUT, SiteKind.MLP_OUT),
    (SiteKind.Z,),
    (SiteKind.Q, SiteKind.K, SiteKind.V, SiteKind.PATTERN),
    (SiteKind.NEURONS,),
)
STEPS = (4, 2, 1)
FEWEST_LAYERS = 4
"""That a coarse look patches; of fewer layers all are patched at once."""


class Rung(Frozen):
    """A scope, and what it adds to the one before."""

    adds: str
    tracing: Tracing


def ladder(asked: Tracing, *, layers: int) -> tuple[Rung, ...]:
    """The scopes from the coarsest to all that was asked for."""
    looks = [(kinds, step) for kinds in _stages(asked) for step in _steps(layers)]
    if not looks:
        return (Rung(adds="no sites", tracing=asked),)
    narrow = {
        "corruptions": (_first(asked),),
        "windows": (1,) if 1 in asked.windows else asked.windows,
        "joint_sites": 0,
    }
    rungs = []
    for upto, (kinds, step) in enumerate(looks, start=1):
        done = {kind: finest for some, finest in looks[:upto] for kind in some}
        coarse = {kind: step * asked.layer_steps.get(kind, 1) for kind, step in done.items()}
        scope = {"kinds": tuple(kind for kind in asked.kinds if kind in done),
                 "layer_steps": {kind: step for kind, step in coarse.items() if step > 1}}  # fmt: skip
        rungs.append(Rung(adds=_look(kinds, step), tracing=_changed(asked, narrow | scope)))
    return (*rungs, *_widened(asked, rungs[-1].tracing))


def _first(asked: Tracing) -> Corruption:
    return Corruption.PAIR if Corruption.PAIR in asked.corruptions else asked.corruptions[0]


def _stages(asked: Tracing) -> Iterator[tuple[SiteKind, ...]]:
    for stage in STAGES:
        if kinds := tuple(kind for kind in asked.kinds if kind in stage):
            yield kinds


def _steps(layers: int) -> list[int]:
    return [step for step in STEPS if step == 1 or layers >= step * FEWEST_LAYERS]


def _look(kinds: Sequence[SiteKind], step: int) -> str:
    where = {1: "every layer", 2: "every second layer", 4: "every fourth layer"}[step]
    return f"{', '.join(dict.fromkeys(kinds))}: {where}"


def _widened(asked: Tracing, sites: Tracing) -> Iterator[Rung]:
    """What is asked for beside single sites under the first corruption, one after another."""
    now = sites
    for corruption in asked.corruptions:
        if corruption not in now.corruptions:
            wanted = {*now.corruptions, corruption}
            now = _changed(now, {"corruptions": tuple(one for one in asked.corruptions if one in wanted)})
            yield Rung(adds=f"corruption {corruption}", tracing=now)
    if now.windows != asked.windows:
        now = _changed(now, {"windows": asked.windows})
        yield Rung(adds=f"windows of {', '.join(str(width) for width in asked.windows if width > 1)} layers",
                   tracing=now)  # fmt: skip
    if now.joint_sites != asked.joint_sites:
        now = _changed(now, {"joint_sites": asked.joint_sites})
        yield Rung(adds=f"{asked.joint_sites} leading sites two by two", tracing=now)


def _changed(tracing: Tracing, changes: dict[str, object]) -> Tracing:
    return tracing.model_copy(update=changes)


class Ladder(NamedTuple):
    """The prices of an audit's scopes, from the coarsest on."""

    risk: str
    """The behavior's rating."""
    prices: Sequence[Price]


RATINGS = {"critical": 0, "high": 1, "medium": 2, "limited": 2, "low": 3, "minimal": 3}
"""In which order ratings are served; any other rating is taken for a high one."""


def climb(ladders: Sequence[Ladder], budget: Budget) -> list[int | None]:
    """How far each audit climbs within one budget: its rung, or None where not even its coarsest look is paid for.

    Coarse looks at all behaviors come before a finer one at any, and among looks alike the riskiest behavior's first;
    whoever cannot pay a rung stays below it. Behaviors of one rating are served in the order given.
    """
    reached: list[int | None] = [None] * len(ladders)
    order = sorted(range(len(ladders)), key=lambda number: RATINGS.get(ladders[number].risk.lower(), RATINGS["high"]))
    for rung in range(max((len(ladder.prices) for ladder in ladders), default=0)):
        for number in order:
            below = None if rung == 0 else rung - 1
            if rung < len(ladders[number].prices) and reached[number] == below:
                wanted = [*reached[:number], rung, *reached[number + 1 :]]
                paid = [one.prices[at] for one, at in zip(ladders, wanted, strict=True) if at is not None]
                reached = wanted if budget.holds(*paid) else reached
    return reached
