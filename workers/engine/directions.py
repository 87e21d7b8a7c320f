"""What a request measures in one direction: maps, screened maps, cells and paths by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit_service.domain.plan import Direction
from audit_service.domain.sitenames import names_matching
from workers.engine.donors import Recording
from workers.engine.losses import next_token_log_p
from workers.engine.placing import heads_of, require_change
from workers.engine.progress import Keep, Progress, StopCheck, kept_under
from workers.engine.requests import TEXTS, Screening, TraceRequest
from workers.engine.routes import Route, measure_routes, routes_named
from workers.engine.screening import screen
from workers.engine.subject import Subject
from workers.engine.sweep import Asked, Map, cells_named, map_of, measure
from workers.engine.tokens import EncodedPair

Arrays = dict[str, NDArray[np.generic]]


def key_of(prefix: str, name: str, readout: str) -> str:
    return f"{prefix}{name}" if readout == "d" else f"{prefix}{name}.{readout}"


class Runs(NamedTuple):
    """The runs that all maps are made from."""

    clean: Recording
    corrupted: list[Recording]
    """One for each draw of noise."""
    ablated: list[Recording]
    """What noising puts into the clean run: the corrupted runs, or a donor without a run of its own."""


class Planned(NamedTuple):
    """What is measured in one direction."""

    direction: Direction
    maps: list[Map]
    """Those of the kinds, and last the cells by name."""
    routes: list[Route]
    sides: list[tuple[Recording, Recording]]
    """(recipient, donor) of each draw."""


def planned_of(subject: Subject, request: TraceRequest, pair: EncodedPair, runs: Runs, direction: Direction) -> Planned:
    """The maps, paths and sides of one direction; InvalidTrace for what cannot be traced."""
    other = pair.corrupt if request.corruption in TEXTS else pair.clean
    denoise = direction is Direction.DENOISE
    asked = Asked(
        *((other, pair.clean) if denoise else (pair.clean, other)), request.mapping, request.part, request.value
    )
    sides = [(run, runs.clean) for run in runs.corrupted] if denoise else [(runs.clean, run) for run in runs.ablated]
    maps = [map_of(subject, kind, asked, segments=request.segments, window=request.window) for kind in request.kinds]
    if request.named:
        maps.append(_cells(subject, request.named, asked, sides[0]))
    routes = {text: routes_named(subject, text, asked) for text in request.paths}
    for text, found in routes.items():
        if "*" not in text:
            require_change(subject.anatomy, found[0].senders, *sides[0])
    return Planned(direction, maps, [route for found in routes.values() for route in found], sides)


def _cells(subject: Subject, named: Sequence[str], asked: Asked, sides: tuple[Recording, Recording]) -> Map:
    """The cells by name, those that * stands for one after another."""
    anatomy = subject.anatomy
    matching = partial(names_matching, layers=range(anatomy.layers), heads_of=partial(heads_of, anatomy))
    for exchanges in cells_named([name for name in named if "*" not in name], asked).sets:
        require_change(anatomy, exchanges, *sides)
    return cells_named([name for text in named for name in matching(text)], asked)


@dataclass(frozen=True, slots=True)
class Measuring:
    """The measurements of one direction."""

    subject: Subject
    request: TraceRequest
    plan: Planned
    keep: Keep
    progress: Progress
    should_stop: StopCheck

    def arrays(self, unpatched: Arrays) -> Arrays:
        """Everything that is measured, by name."""
        arrays: Arrays = {}
        exact = self.plan.maps
        if (screening := self.request.screening) is not None:
            base = float(unpatched["corrupt" if self.plan.direction is Direction.DENOISE else "clean"])
            maps, exact = exact[: len(self.request.kinds)], exact[len(self.request.kinds) :]
            arrays |= self._screened(maps, screening, base)
        if exact:
            found = measure(
                self.subject,
                self.plan.sides,
                exact,
                labels=self.request.labels,
                all_readouts=self.request.all_readouts,
                keep=self.keep,
                progress=self.progress,
                should_stop=self.should_stop,
            )
            arrays |= {
                key_of("", name, readout): cells for name, read in found.items() for readout, cells in read.items()
            }
        if self.plan.routes:
            arrays["paths"] = measure_routes(
                self.subject,
                self.plan.sides,
                self.plan.routes,
                labels=self.request.labels,
                freeze_mlps=self.request.freeze_mlps,
                keep=self.keep,
                progress=self.progress,
                should_stop=self.should_stop,
            )
        if self.request.losses:
            arrays |= _losses(self.subject, self.plan.maps[-1], self.plan.sides, should_stop=self.should_stop)
        return arrays

    def _screened(self, maps: Sequence[Map], screening: Screening, base: float) -> Arrays:
        """Estimates of whole maps, and the patched decision values of the cells that were measured; NaN elsewhere."""
        recipient, donor = self.plan.sides[0]
        found = screen(
            self.subject,
            recipient,
            donor,
            [exchange for each in maps for (exchange,) in each.sets],
            labels=self.request.labels,
            top=screening.top,
            sample=screening.sample,
            threshold=screening.threshold,
            seed=self.request.seed,
            estimator=screening.estimator,
            keep=kept_under(self.keep, "screen"),
            progress=self.progress,
            should_stop=self.should_stop,
        )
        patched = np.full(len(found.estimated), np.nan, np.float32)
        patched[found.verified] = base + found.exact
        by_chance = np.zeros(len(patched), np.bool_)
        by_chance[found.verified[len(found.verified) - found.sampled :]] = True
        arrays: Arrays = {"missed_at_most": np.array(found.missed_at_most), "threshold": np.array(screening.threshold)}
        ends = np.cumsum([len(each.sets) for each in maps])[:-1]
        parts = (np.split(column, ends) for column in (patched, found.estimated, by_chance))
        for each, cells, estimates, drawn in zip(maps, *parts, strict=True):
            arrays |= {
                each.name: cells.reshape(each.shape),
                f"{each.name}.estimate": estimates.reshape(each.shape),
                f"{each.name}.by_chance": drawn.reshape(each.shape),
            }
        return arrays


def _losses(
    subject: Subject,
    cells: Map,
    sides: Sequence[tuple[Recording, Recording]],
    *,
    should_stop: StopCheck,
) -> Arrays:
    """Log-probability of each next token in the runs of the named cells, and in the unpatched one; means over draws."""
    found = [next_token_log_p(subject, *side, [*cells.sets, ()], should_stop=should_stop) for side in sides]
    table = np.stack(found).mean(axis=0)
    return {"cells.next_token_log_p": table[:-1], "unpatched.next_token_log_p": table[-1]}
