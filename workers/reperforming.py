"""Re-performance: the auditor repeats a sample of the measurements on an own machine and compares the cells."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audit_service.domain.cells import EffectTable
from audit_service.domain.pairs import Pair
from audit_service.domain.shards import partners
from audit_service.domain.tables import Tables
from audit_service.errors import InvalidInput
from audit_service.registry.inspection import verify_unchanged
from workers.engine.decisions import measure_decisions
from workers.engine.determinism import make_deterministic
from workers.engine.loading import load_subject
from workers.engine.selfcheck import TOLERANCE
from workers.engine.subject import Subject
from workers.engine.tokens import labels_of, prompts_of
from workers.engine.variants import setting_of, trace_variant
from workers.rendering.evidence import Evidence
from workers.rendering.verifying import cells_of, open_bundle


@dataclass(frozen=True, slots=True)
class Repeated:
    """One pair measured again."""

    pair: str
    what: str
    """ "decisions", or direction and corruption of the effects."""
    cells: int
    deviation: float
    """Largest difference to a stored cell, in nats."""
    tolerance: float

    @property
    def holds(self) -> bool:
        return self.deviation <= self.tolerance


def reperform(bundle: bytes, *, model: Path, sample: int, seed: int) -> Iterator[Repeated]:
    """Repeats ``sample`` pairs drawn by ``seed``: decisions, and effects of those that were traced.

    At least one traced pair is among them, so that effects are repeated too.

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
    for pair in pairs:
        yield _decisions(subject, evidence, cells, pair)
        for table in cells.effects:
            if pair in table.pairs:
                yield _effects(subject, evidence, table, pair)


def _drawn(evidence: Evidence, cells: Tables, *, sample: int, seed: int) -> Sequence[Pair]:
    """A traced pair first, then any."""
    rng = random.Random(seed)  # noqa: S311 - a sample that can be drawn again, not a secret
    pairs = list(evidence.pair_set.pairs)
    if not 1 <= sample <= len(pairs):
        raise InvalidInput(f"The bundle holds {len(pairs)} pairs.", remedy="Choose a sample between 1 and that number.")
    traced = list(dict.fromkeys(pair for table in cells.effects for pair in table.pairs))
    first = [rng.choice(traced)] if traced else []
    others = [pair for pair in pairs if pair not in first]
    return [*first, *rng.sample(others, sample - len(first))]


def _decisions(subject: Subject, evidence: Evidence, cells: Tables, pair: Pair) -> Repeated:
    encoded = prompts_of(subject, pair)
    labels = labels_of(subject, evidence.plan.behavior.labels)
    again = measure_decisions(subject, [encoded.clean_ids, encoded.corrupt_ids], labels)
    stored = cells.decisions.d[cells.decisions.pairs.index(pair)]
    return _compared(subject, pair, "decisions", stored, again.d)


def _effects(subject: Subject, evidence: Evidence, table: EffectTable, pair: Pair) -> Repeated:
    """Every cell of a pair in one table, measured as the worker does."""
    plan = evidence.plan
    others = partners(plan, evidence.pair_set, table.form)[pair.id]
    again = trace_variant(
        subject,
        prompts_of(subject, pair),
        [site.parts for site in table.sites],
        setting_of(plan, table.direction, table.corruption),
        labels=labels_of(subject, plan.behavior.labels),
        others=[prompts_of(subject, other).corrupt for other in others],
    )
    stored = table.patched[table.pairs.index(pair)]
    return _compared(subject, pair, table.key.removeprefix(f"{table.form}."), stored, again.patched)


def _compared(subject: Subject, pair: Pair, what: str, stored: np.ndarray, again: np.ndarray) -> Repeated:
    deviation = float(np.abs(stored - again).max())
    return Repeated(pair.id, what, stored.size, deviation, TOLERANCE[subject.dtype])
