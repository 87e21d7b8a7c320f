"""Re-performance: the auditor repeats a sample of the measurements on an own machine and compares the cells."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit_service.domain.cells import DecisionTable, EffectTable
from audit_service.domain.joint import JointTable, site_pairs
from audit_service.domain.pairs import Pair, PairSet
from audit_service.domain.plan import Plan
from audit_service.domain.shards import partners
from audit_service.domain.sites import Site
from audit_service.domain.tables import Tables
from audit_service.domain.trace import EffectCells
from audit_service.errors import InvalidInput
from audit_service.registry.inspection import verify_unchanged
from workers.engine.determinism import make_deterministic
from workers.engine.loading import load_subject
from workers.engine.selfcheck import TOLERANCE
from workers.engine.subject import Subject
from workers.engine.tokens import prompts_of
from workers.measuring import decision_cells, effect_cells
from workers.rendering.evidence import Evidence
from workers.rendering.verifying import cells_of, open_bundle

Arrays = Mapping[str, NDArray[np.floating]]
"""What was read of one pair, by name; all in nats but the rank."""
ROUNDING = 16 * float(np.finfo(np.float32).eps)
"""Share of a value that float32 may lose: noise drives a prompt's readouts to hundreds of nats."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """Cells of one pair measured again."""

    pair: str
    what: str
    """ "decisions"; direction and corruption of the effects; "joint" where two sites were exchanged at once."""
    cells: int
    deviation: float
    """Largest difference to a stored cell, in nats. A rank's is counted beyond one place and as a share of the rank:
    about as many tokens as its own rank lie within a nat of a token."""
    widest: str
    """The value that deviates most, such as "patched" or "log_p_favorable"."""
    tolerance: float

    @property
    def holds(self) -> bool:
        return self.deviation <= self.tolerance


def reperform(bundle: bytes, *, model: Path, sample: int, seed: int) -> Iterator[Repeated]:
    """Repeats all that the bundle holds of ``sample`` pairs drawn by ``seed``.

    These are the decisions, and of traced pairs the effects under every direction and corruption, those of two sites
    at once, and whatever else was read in the same runs. At least one pair that was traced so far is among them.

    Raises:
        InvalidInput: it is no bundle, or holds fewer pairs.
        ModelChanged: the model's files are not those that were audited.
    """
    evidence, files = open_bundle(bundle)
    cells = cells_of(evidence, files)
    verify_unchanged(evidence.plan.model, model)
    pairs = _drawn(evidence, cells, sample=sample, seed=seed)
    make_deterministic(seed=evidence.plan.tracing.seed)
    subject = load_subject(model, dtype=evidence.plan.model.dtype)
    repetition = Repetition(subject, evidence.plan, evidence.pair_set)
    for pair in pairs:
        yield from repetition.all_of(pair, cells)


def _drawn(evidence: Evidence, cells: Tables, *, sample: int, seed: int) -> Sequence[Pair]:
    """First a pair of which as much as possible was measured, then any."""
    rng = random.Random(seed)  # noqa: S311 - a sample that can be drawn again, not a secret
    pairs = list(evidence.pair_set.pairs)
    if not 1 <= sample <= len(pairs):
        raise InvalidInput(f"The bundle holds {len(pairs)} pairs.", remedy="Choose a sample between 1 and that number.")
    together = list(dict.fromkeys(pair for table in cells.joint for pair in table.alone.pairs))
    traced = together or list(dict.fromkeys(pair for table in cells.effects for pair in table.pairs))
    first = [rng.choice(traced)] if traced else []
    others = [pair for pair in pairs if pair not in first]
    return [*first, *rng.sample(others, sample - len(first))]


@dataclass(frozen=True, slots=True)
class Repetition:
    """Measures pairs as the workers do, and compares."""

    subject: Subject
    plan: Plan
    pair_set: PairSet

    def all_of(self, pair: Pair, cells: Tables) -> Iterator[Repeated]:
        """Everything that was measured of the pair."""
        yield self.decisions(pair, cells.decisions)
        yield from (self.effects(pair, table) for table in cells.effects if pair in table.pairs)
        yield from (self.joint(pair, table) for table in cells.joint if pair in table.alone.pairs)

    def decisions(self, pair: Pair, table: DecisionTable) -> Repeated:
        again = decision_cells(self.subject, self.plan, [prompts_of(self.subject, pair)])
        row = table.pairs.index(pair)
        names = ("d", "log_p_favorable", "log_p_unfavorable")
        return self._compared(
            pair,
            "decisions",
            {name: getattr(table, name)[row] for name in names} | _row(table.readouts, row),
            {name: getattr(again, name)[0] for name in names} | _row(again.readouts, 0),
        )

    def effects(self, pair: Pair, table: EffectTable) -> Repeated:
        sets = [site.parts for site in table.sites]
        again = self._traced(pair, table, sets, readouts=bool(table.readouts))
        row = table.pairs.index(pair)
        names = ("d_clean", "d_corrupt", "patched")
        return self._compared(
            pair,
            table.key.removeprefix(f"{table.form}."),
            {name: getattr(table, name)[row] for name in names} | _row(table.readouts, row),
            {name: getattr(again, name)[0] for name in names} | _row(again.readouts, 0),
        )

    def joint(self, pair: Pair, table: JointTable) -> Repeated:
        alone = table.alone
        again = self._traced(pair, alone, site_pairs(alone.sites), readouts=False)
        stored = table.together[alone.pairs.index(pair)]
        return self._compared(pair, f"{alone.direction}.joint", {"together": stored}, {"together": again.patched[0]})

    def _traced(self, pair: Pair, table: EffectTable, sets: Sequence[Sequence[Site]], *, readouts: bool) -> EffectCells:
        """The cells of sets of sites in the table's form, direction and corruption."""
        return effect_cells(
            self.subject,
            self.plan,
            [prompts_of(self.subject, pair)],
            sets,
            direction=table.direction,
            corruption=table.corruption,
            partners=partners(self.plan, self.pair_set, table.form),
            all_readouts=readouts,
        )

    def _compared(self, pair: Pair, what: str, stored: Arrays, again: Arrays) -> Repeated:
        apart = {name: _apart(name, stored[name], again[name]) for name in stored}
        widest = max(apart, key=apart.__getitem__)
        cells = sum(np.size(array) for array in stored.values())
        return Repeated(pair.id, what, cells, apart[widest], widest, TOLERANCE[self.subject.dtype])


def _row(readouts: Arrays, row: int) -> dict[str, NDArray[np.floating]]:
    return {name: cells[row] for name, cells in readouts.items()}


def _apart(name: str, stored: NDArray[np.floating], again: NDArray[np.floating]) -> float:
    """Largest difference beyond rounding; infinite where only one of two is a number."""
    stored, again = np.asarray(stored, dtype=np.float64), np.asarray(again, dtype=np.float64)
    difference = np.where(np.isnan(stored) & np.isnan(again), 0, np.abs(stored - again))
    if name == "rank":
        difference = np.maximum(difference - 1, 0) / np.maximum(stored, again)
    else:
        difference = np.maximum(difference - ROUNDING * np.nan_to_num(np.abs(stored)), 0)
    return float(np.nan_to_num(difference, nan=np.inf).max())
