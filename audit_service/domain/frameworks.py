"""The crosswalk: which framework items this evidence supports, how strongly, and why not more strongly.

Strengths of the mapping are ceilings (evidence_mapping.yaml, ``ceiling_rule``). A row is supported by the artefacts
that are really in the report; each downgrade DG1 to DG10 is evaluated from facts, and the reason stays with the row.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Literal, NamedTuple

from pydantic import Field

from audit_service.domain.manifest import Frozen


class Strength(StrEnum):
    DIRECT = "direct"
    PARTIAL = "partial"
    CONTEXTUAL = "contextual"
    NOT_COVERED = "not_covered"


STRONGEST_FIRST = tuple(Strength)

DISPARITY, METRIC, LOCALISATION = "disparity_test", "metric_definition", "localisation"
SENSITIVITY, MANIFEST, MITIGATION = "localisation_sensitivity", "run_manifest", "mitigation_comparison"
RUN_ARTEFACTS = frozenset({DISPARITY, LOCALISATION, SENSITIVITY, MANIFEST})
"""Artefacts that are worth nothing once a digest of their run does not hold."""


def weaker(left: Strength, right: Strength) -> Strength:
    """The weaker of two strengths."""
    return max(left, right, key=STRONGEST_FIRST.index)


class Support(Frozen):
    """What one kind of artefact can do for a row at most."""

    kind: str
    strength: Strength


class MappingRow(Frozen):
    """One framework item as the mapping judges it."""

    id: str
    strength: Strength
    artefacts: tuple[Support, ...] = ()
    rationale: str
    gap: str | None = None


class Facts(Frozen):
    """What this evidence is, as far as the downgrades ask; None where the service cannot know."""

    artefacts: frozenset[str]
    """Kinds of artefact that the report holds."""
    signed_off_by_another: bool
    disparity_complete: bool
    """Interval, sample size and null control are there for every disparity."""
    criteria_fixed_before: bool
    inconclusive: bool
    localisation_stable: bool | None
    """Whether the leading components stay the same across corruption methods and metrics; None if only one was run."""
    digests_hold: bool
    deployment_argument: bool
    current: bool | None
    """Not overdue, and the deployed model is the audited one; None if no schedule and no deployment is registered."""
    mitigation_complete: bool | None
    """None if there is no mitigation."""
    approver_independent: bool | None
    """None if nobody has approved."""


class Application(StrEnum):
    APPLIES = "applies"
    HOLDS = "holds"
    """The condition of the downgrade is not met: the ceiling is kept."""
    NOT_EVALUATED = "not_evaluated"
    """The service does not have the data, or there is no such artefact."""


DowngradeId = Literal["DG1", "DG2", "DG3", "DG4", "DG5", "DG6", "DG7", "DG8", "DG9", "DG10"]


def evaluate_downgrades(facts: Facts) -> dict[DowngradeId, Application]:
    """Each downgrade of the mapping, decided from the facts."""

    def applies(condition: bool | None) -> Application:
        if condition is None:
            return Application.NOT_EVALUATED
        return Application.APPLIES if condition else Application.HOLDS

    def negated(fact: bool | None) -> bool | None:
        return None if fact is None else not fact

    has = facts.artefacts
    unstable = LOCALISATION in has and (SENSITIVITY not in has or facts.localisation_stable is not True)
    return {
        "DG1": applies(not facts.signed_off_by_another),
        "DG2": applies(not facts.disparity_complete if DISPARITY in has else None),
        "DG3": applies(not facts.criteria_fixed_before),
        "DG4": applies(facts.inconclusive if DISPARITY in has else None),
        "DG5": applies(unstable if LOCALISATION in has else None),
        "DG6": applies(not facts.digests_hold),
        "DG7": applies(not facts.deployment_argument),
        "DG8": applies(negated(facts.current)),
        "DG9": applies(negated(facts.mitigation_complete)),
        "DG10": applies(negated(facts.approver_independent)),
    }


class CrosswalkRow(Frozen):
    """One framework item as this report supports it."""

    id: str
    ceiling: Strength
    strength: Strength
    present: tuple[str, ...]
    """Kinds of artefact in this report that support the row."""
    absent: tuple[str, ...]
    """Kinds that the mapping names and this report does not hold."""
    reasons: tuple[DowngradeId, ...] = ()
    """Downgrades that weaken this row."""
    rationale: str
    gap: str | None = None
    exploratory: bool = False


class _Weakened(NamedTuple):
    strength: Strength
    reasons: tuple[DowngradeId, ...]


_ROW_CAPS: dict[DowngradeId, tuple[frozenset[str], Strength]] = {
    "DG4": (frozenset({"MEASURE 2.11", "A.6.2.4"}), Strength.PARTIAL),
    "DG7": (frozenset({"MEASURE 2.3"}), Strength.CONTEXTUAL),
    "DG10": (frozenset({"MEASURE 1.3"}), Strength.NOT_COVERED),
}
_KIND_CAPS: dict[DowngradeId, tuple[frozenset[str], Strength]] = {
    "DG2": (frozenset({DISPARITY}), Strength.CONTEXTUAL),
    "DG3": (frozenset({DISPARITY, METRIC}), Strength.PARTIAL),
    "DG5": (frozenset({LOCALISATION}), Strength.CONTEXTUAL),
    "DG9": (frozenset({MITIGATION}), Strength.CONTEXTUAL),
}


def _support(row: MappingRow, present: Iterable[Support], applied: frozenset[DowngradeId]) -> _Weakened:
    """The strongest support that is left, and the downgrades that took something away."""
    best, reasons = Strength.NOT_COVERED, set[DowngradeId]()
    for support in present:
        strength = support.strength
        for downgrade, (kinds, cap) in _KIND_CAPS.items():
            if downgrade in applied and support.kind in kinds and weaker(strength, cap) is not strength:
                strength = cap
                reasons.add(downgrade)
        best = min(best, strength, key=STRONGEST_FIRST.index)
    return _Weakened(weaker(best, row.strength), tuple(sorted(reasons)))


def _row_caps(row: MappingRow, applied: frozenset[DowngradeId]) -> dict[DowngradeId, Strength]:
    """Caps that apply to the row as a whole."""
    caps = {downgrade: cap for downgrade, (ids, cap) in _ROW_CAPS.items() if row.id in ids}
    caps["DG1"] = Strength.PARTIAL
    caps["DG8"] = Strength.CONTEXTUAL
    if RUN_ARTEFACTS & {support.kind for support in row.artefacts}:
        caps["DG6"] = Strength.NOT_COVERED
    return {downgrade: cap for downgrade, cap in caps.items() if downgrade in applied}


def crosswalk_row(row: MappingRow, facts: Facts, downgrades: Mapping[DowngradeId, Application]) -> CrosswalkRow:
    """One item: its ceiling, what is left of it, and why."""
    applied = frozenset(downgrade for downgrade, state in downgrades.items() if state is Application.APPLIES)
    present = [support for support in row.artefacts if support.kind in facts.artefacts]
    strength, kind_reasons = _support(row, present, applied)
    reasons = list(kind_reasons)
    for downgrade, cap in _row_caps(row, applied).items():
        if weaker(strength, cap) is not strength:
            strength = cap
            reasons.append(downgrade)
    kinds = {support.kind for support in present}
    return CrosswalkRow(
        id=row.id,
        ceiling=row.strength,
        strength=strength,
        present=tuple(support.kind for support in present),
        absent=tuple(support.kind for support in row.artefacts if support.kind not in facts.artefacts),
        reasons=tuple(sorted(set(reasons), key=lambda downgrade: int(downgrade[2:]))),
        rationale=row.rationale,
        gap=row.gap,
        exploratory="DG3" in applied and bool(kinds & {DISPARITY, METRIC}),
    )


def crosswalk(
    rows: Iterable[MappingRow], facts: Facts, downgrades: Mapping[DowngradeId, Application]
) -> tuple[CrosswalkRow, ...]:
    """Every item of a framework, in the mapping's order; none is left out."""
    return tuple(crosswalk_row(row, facts, downgrades) for row in rows)


def count_strengths(strengths: Iterable[Strength]) -> dict[Strength, int]:
    """The four counts, side by side; contextual rows are never added to coverage."""
    listed = list(strengths)
    return {strength: listed.count(strength) for strength in STRONGEST_FIRST}


class MappingFile(Frozen):
    """The part of evidence_mapping.yaml that decides and speaks in every report."""

    report_must_say: tuple[str, ...] = Field(min_length=1)
    report_must_say_zh_hant: tuple[str, ...] = Field(min_length=1)
    never_print: tuple[str, ...] = Field(min_length=1)
    mappings: dict[str, tuple[MappingRow, ...]]
