"""The measured cells of a run as tables: what every statistic is computed from.

Sign convention, here once and nowhere else: **gap = d(reference) - d(comparison)**, in nats. A positive gap means that
the reference group is favoured. It equals the total effect d_clean - d_corrupt of the traces (METHOD.md section 4),
because the reference prompt is the clean one. In percentage points: 100 x (p(reference) - p(comparison)).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from audit_service.domain.pairs import Pair
from audit_service.domain.plan import Corruption, Direction
from audit_service.domain.sites import Site
from audit_service.domain.trace import DecisionCells, EffectCells
from audit_service.errors import InvalidInput

Cells = NDArray[np.floating]
"""float32 as measured."""
Mask = NDArray[np.bool_]
RESOLUTION = 1e-4
"""Nats that float32 arithmetic explains (the tolerance of the controls): what never moves by more has no effect."""
REFERENCE, COMPARISON = 0, 1
"""Axis 1 of every pair x side array."""


def gap(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """[pair, side] → [pair] reference minus comparison."""
    wide = values.astype(np.float64)
    return wide[:, REFERENCE] - wide[:, COMPARISON]


@dataclass(frozen=True, slots=True)
class DecisionTable:
    """Decision values of all pairs of a run, in all forms. Cells that are missing or failed are NaN."""

    pairs: tuple[Pair, ...]
    d: Cells
    """[pair, side] log-odds in nats."""
    log_p_favorable: Cells
    """[pair, side]"""
    log_p_unfavorable: Cells
    """[pair, side]"""
    readouts: Mapping[str, Cells] = field(default_factory=dict)
    """Name → [pair, side] what else was read of each prompt."""

    def __post_init__(self) -> None:
        for name in ("d", "log_p_favorable", "log_p_unfavorable"):
            _expect_shape(name, getattr(self, name), (len(self.pairs), 2))
        for name, cells in self.readouts.items():
            _expect_shape(name, cells, (len(self.pairs), 2))

    @classmethod
    def of(cls, pairs: Sequence[Pair], shards: Sequence[DecisionCells]) -> Self:
        """The shards' cells behind each other; their rows are in the order of ``pairs``."""
        empty = np.zeros((0, 2), np.float32)
        return cls(
            tuple(pairs),
            np.concatenate([empty, *(cells.d for cells in shards)]),
            np.concatenate([empty, *(cells.log_p_favorable for cells in shards)]),
            np.concatenate([empty, *(cells.log_p_unfavorable for cells in shards)]),
            _joined([cells.readouts for cells in shards]),
        )

    @property
    def coverage(self) -> NDArray[np.float64]:
        """[pair, side] P(favorable) + P(unfavorable); NaN where either is not a probability."""
        favorable, unfavorable = (np.exp(np.minimum(x, 1).astype(np.float64)) for x in self._log_p)
        total = favorable + unfavorable
        return np.where(total <= 1 + 1e-3, total, np.nan)

    @property
    def _log_p(self) -> tuple[Cells, Cells]:
        return self.log_p_favorable, self.log_p_unfavorable

    def finite(self) -> Mask:
        """[pair, side] whether the prompt's decision is a number at all."""
        cells = (self.d, self.log_p_favorable, self.log_p_unfavorable, self.coverage)
        return np.asarray(np.logical_and.reduce([np.isfinite(values) for values in cells]))

    def measured(self, *, min_coverage: float) -> Mask:
        """[pair] whether both prompts gave a finite decision with the declared coverage."""
        enough = np.nan_to_num(self.coverage, nan=0.0) >= min_coverage
        return np.asarray((self.finite() & enough).all(axis=1))

    def measured_of(self, pairs: Sequence[Pair], *, min_coverage: float) -> Mask:
        """[pair] whether each of these pairs, whatever their order, is one that was measured."""
        measured = self.measured(min_coverage=min_coverage)
        known = {pair.id for pair, kept in zip(self.pairs, measured, strict=True) if kept}
        return np.array([pair.id in known for pair in pairs], dtype=bool)

    def select(self, mask: Mask) -> "DecisionTable":
        return self.take(np.flatnonzero(mask))

    def take(self, rows: NDArray[np.intp]) -> "DecisionTable":
        """The pairs with these indices, in their order."""
        pairs = tuple(self.pairs[row] for row in rows)
        readouts = {name: cells[rows] for name, cells in self.readouts.items()}
        return DecisionTable(pairs, self.d[rows], self.log_p_favorable[rows], self.log_p_unfavorable[rows], readouts)


@dataclass(frozen=True, slots=True)
class EffectTable:
    """The whole pair x site matrix of one form and direction. Cells that are missing or failed are NaN."""

    form: str
    direction: Direction
    pairs: tuple[Pair, ...]
    sites: tuple[Site, ...]
    d_clean: Cells
    """[pair] reference prompt, unpatched."""
    d_corrupt: Cells
    """[pair] comparison prompt, unpatched."""
    patched: Cells
    """[pair, site]"""
    corruption: Corruption = Corruption.PAIR
    width: int = 1
    """Layers that each site spans; the sites of one table compete with each other, so windows have their own."""
    readouts: Mapping[str, Cells] = field(default_factory=dict)
    """Name → [pair, site + 2] what else was read in the same runs, and last in the clean and in the corrupt run."""

    def __post_init__(self) -> None:
        _expect_shape("d_clean", self.d_clean, (len(self.pairs),))
        _expect_shape("d_corrupt", self.d_corrupt, (len(self.pairs),))
        _expect_shape("patched", self.patched, (len(self.pairs), len(self.sites)))
        for name, cells in self.readouts.items():
            _expect_shape(name, cells, (len(self.pairs), len(self.sites) + 2))

    @classmethod
    def of(
        cls,
        form: str,
        direction: Direction,
        *,
        pairs: Sequence[Pair],
        sites: Sequence[Site],
        shards: Sequence[EffectCells],
        corruption: Corruption = Corruption.PAIR,
    ) -> Self:
        """The shards' cells behind each other; their rows are in the order of ``pairs``."""
        empty = np.zeros(0, np.float32)
        return cls(
            form,
            direction,
            tuple(pairs),
            tuple(sites),
            np.concatenate([empty, *(cells.d_clean for cells in shards)]),
            np.concatenate([empty, *(cells.d_corrupt for cells in shards)]),
            np.concatenate([np.zeros((0, len(sites)), np.float32), *(cells.patched for cells in shards)]),
            corruption,
            readouts=_joined([cells.readouts for cells in shards]),
        )

    @property
    def key(self) -> str:
        """Form and direction, and what is unusual about the trace; the results' keys begin with it."""
        unusual = [] if self.corruption is Corruption.PAIR else [str(self.corruption)]
        unusual += [] if self.width == 1 else [f"window{self.width}"]
        return ".".join([self.form, self.direction, *unusual])

    @property
    def is_main(self) -> bool:
        """The pair itself and single layers: what is said of sites rests on these, the rest is sensitivity."""
        return self.corruption is Corruption.PAIR and self.width == 1

    def of_width(self, width: int) -> "EffectTable":
        """The sites that span so many layers."""
        return replace(self.at([index for index, site in enumerate(self.sites) if site.width == width]), width=width)

    def at(self, columns: list[int]) -> "EffectTable":
        """The sites with these indices, in their order."""
        unpatched = [len(self.sites), len(self.sites) + 1]
        return replace(
            self,
            sites=tuple(self.sites[column] for column in columns),
            patched=self.patched[:, columns],
            readouts={name: cells[:, columns + unpatched] for name, cells in self.readouts.items()},
        )

    @property
    def total(self) -> NDArray[np.float64]:
        """[pair] what a patch of everything moves the recipient by: the gap, or minus the gap when noising."""
        whole = self.d_clean.astype(np.float64) - self.d_corrupt
        return whole if self.direction is Direction.DENOISE else -whole

    @property
    def effects(self) -> Cells:
        """[pair, site] patched minus the unpatched recipient, in nats."""
        return self.patched - self.recipient[:, None]

    @property
    def recipient(self) -> Cells:
        """[pair] the run that activations are put into, unpatched."""
        return self.d_corrupt if self.direction is Direction.DENOISE else self.d_clean

    def resolved(self) -> "EffectTable":
        """The same with sites at rest where no pair moves by more than the arithmetic explains, value by value.

        A log-probability or a divergence is in nats too; ranks are whole numbers.
        """
        own = -1 if self.direction is Direction.DENOISE else -2
        readouts = {
            name: np.column_stack([_at_rest(cells[:, :-2], cells[:, own]), cells[:, -2:]])
            for name, cells in self.readouts.items()
        }
        return replace(self, patched=_at_rest(self.patched, self.recipient), readouts=readouts)

    def finite(self) -> Mask:
        """[pair] whether every cell of the pair is a number."""
        unpatched = np.isfinite(self.d_clean) & np.isfinite(self.d_corrupt)
        return unpatched & np.isfinite(self.patched).all(axis=1)

    def select(self, mask: Mask) -> "EffectTable":
        return self.take(np.flatnonzero(mask))

    def take(self, rows: NDArray[np.intp]) -> "EffectTable":
        """The pairs with these indices, in their order."""
        return replace(
            self,
            pairs=tuple(self.pairs[row] for row in rows),
            d_clean=self.d_clean[rows],
            d_corrupt=self.d_corrupt[rows],
            patched=self.patched[rows],
            readouts={name: cells[rows] for name, cells in self.readouts.items()},
        )


def _at_rest(patched: Cells, recipient: Cells) -> Cells:
    """[pair, site] patched, or the unpatched recipient's [pair] at sites that no pair moves beyond the resolution."""
    still = np.abs(patched - recipient[:, None]).max(axis=0, initial=0) < RESOLUTION
    return np.where(still, recipient[:, None], patched)


def _joined(shards: Sequence[Mapping[str, Cells]]) -> dict[str, Cells]:
    """The readouts that every shard has, behind each other."""
    names = set.intersection(*map(set, shards)) if shards else set()
    return {name: np.concatenate([shard[name] for shard in shards]) for name in sorted(names)}


def _expect_shape(name: str, array: Cells, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise InvalidInput(
            f"{name} has shape {array.shape}, the pairs and sites ask for {shape}.",
            remedy="Load the cells of all shards of the run, in the order of the pairs and of the plan's sites.",
        )
