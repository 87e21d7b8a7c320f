"""The crosswalk never says more than the mapping allows, and each downgrade does what it is there for."""

from pathlib import Path

import pytest
import yaml

from audit_service.domain.frameworks import (
    STRONGEST_FIRST,
    Application,
    CrosswalkRow,
    DowngradeId,
    Facts,
    MappingFile,
    Strength,
    count_strengths,
    crosswalk,
    evaluate_downgrades,
    weaker,
)

FILE = Path(__file__).parents[2] / "report_templates" / "frameworks" / "evidence_mapping.yaml"
RAW = yaml.safe_load(FILE.read_text(encoding="utf-8"))
MAPPING = MappingFile.model_validate({name: RAW[name] for name in MappingFile.model_fields}, strict=False)
NIST, ISO = "nist-ai-rmf-1.0", "iso-iec-42001-2023"
KINDS = frozenset(kind["id"] for kind in RAW["artefact_kinds"])
BEST = Facts(
    artefacts=KINDS,
    signed_off_by_another=True,
    disparity_complete=True,
    criteria_fixed_before=True,
    inconclusive=False,
    localisation_stable=True,
    digests_hold=True,
    deployment_argument=True,
    current=True,
    mitigation_complete=True,
    approver_independent=True,
)
"""Everything that a report could hold, and nothing to take away."""


def rows(facts: Facts, name: str = NIST) -> dict[str, CrosswalkRow]:
    return {row.id: row for row in crosswalk(MAPPING.mappings[name], facts, evaluate_downgrades(facts))}


def but(**changes: object) -> Facts:
    return BEST.model_copy(update=changes)


def not_stronger(left: Strength, right: Strength) -> bool:
    return STRONGEST_FIRST.index(left) >= STRONGEST_FIRST.index(right)


def test_with_everything_there_each_row_reaches_its_ceiling() -> None:
    for name in (NIST, ISO):
        assert all(row.strength is row.ceiling and not row.reasons for row in rows(BEST, name).values())


def test_the_ceilings_are_counted_as_the_mapping_says() -> None:
    found = count_strengths(row.ceiling for row in rows(BEST).values())
    assert {str(strength): number for strength, number in found.items()} == RAW["summary"]["nist_ai_rmf_1_0"]
    controls = [row.ceiling for key, row in rows(BEST, ISO).items() if key.startswith("A.")]
    assert {str(s): n for s, n in count_strengths(controls).items()} == RAW["summary"]["iso_42001_annex_a"]


def test_without_artefacts_nothing_is_covered() -> None:
    assert {row.strength for row in rows(but(artefacts=frozenset())).values()} == {Strength.NOT_COVERED}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_artefact_that_is_not_there_supports_nothing(kind: str) -> None:
    for row in rows(but(artefacts=KINDS - {kind})).values():
        assert kind not in row.present
        supports = {s.kind: s.strength for one in MAPPING.mappings[NIST] if one.id == row.id for s in one.artefacts}
        allowed = [strength for other, strength in supports.items() if other != kind]
        assert not_stronger(row.strength, min(allowed, key=STRONGEST_FIRST.index, default=Strength.NOT_COVERED))


WORSE = {
    "DG1": {"signed_off_by_another": False},
    "DG2": {"disparity_complete": False},
    "DG3": {"criteria_fixed_before": False},
    "DG4": {"inconclusive": True},
    "DG5": {"localisation_stable": False},
    "DG6": {"digests_hold": False},
    "DG7": {"deployment_argument": False},
    "DG8": {"current": False},
    "DG9": {"mitigation_complete": False},
    "DG10": {"approver_independent": False},
}


@pytest.mark.parametrize("rule", WORSE)
def test_each_downgrade_applies_alone_and_only_weakens(rule: str) -> None:
    facts = but(**WORSE[rule])
    states = evaluate_downgrades(facts)
    assert [name for name, state in states.items() if state is Application.APPLIES] == [rule]
    for name in (NIST, ISO):
        after = rows(facts, name).values()
        assert all(not_stronger(row.strength, row.ceiling) for row in after)
        assert all(row.reasons == (rule,) for row in after if row.strength is not row.ceiling)
    if rule not in {"DG5", "DG9"}:
        assert any(row.reasons for row in rows(facts).values())


def test_dg1_leaves_nothing_direct() -> None:
    assert Strength.DIRECT not in {row.strength for row in rows(but(signed_off_by_another=False)).values()}


def test_dg2_makes_the_disparity_test_background() -> None:
    row = rows(but(disparity_complete=False, artefacts=frozenset({"disparity_test"})))["MEASURE 2.11"]
    assert (row.strength, row.reasons) == (Strength.CONTEXTUAL, ("DG2",))


def test_dg3_marks_what_it_touches_as_exploratory() -> None:
    row = rows(but(criteria_fixed_before=False))["MEASURE 2.11"]
    assert row.exploratory
    assert row.strength is Strength.PARTIAL
    assert not rows(BEST)["MEASURE 2.11"].exploratory


def test_dg4_weakens_the_two_rows_it_names() -> None:
    assert rows(but(inconclusive=True))["MEASURE 2.11"].strength is Strength.PARTIAL
    assert rows(but(inconclusive=True), ISO)["A.6.2.4"].strength is Strength.PARTIAL
    assert rows(but(inconclusive=True))["MEASURE 2.1"].strength is Strength.DIRECT


@pytest.mark.parametrize("stable", [False, None])
def test_dg5_makes_an_unstable_or_unexamined_localisation_background(stable: bool | None) -> None:
    facts = but(localisation_stable=stable, artefacts=frozenset({"localisation"}))
    row = rows(facts)["MEASURE 2.9"]
    assert (row.strength, row.reasons) == (Strength.CONTEXTUAL, ("DG5",))


def test_dg6_covers_nothing_that_rests_on_the_run() -> None:
    after = rows(but(digests_hold=False))
    assert after["MEASURE 2.11"].strength is Strength.NOT_COVERED
    assert after["MAP 2.1"].strength is Strength.NOT_COVERED
    assert after["MAP 3.3"].strength is Strength.PARTIAL  # registration and limitations only


def test_dg7_and_dg10_touch_one_row_each() -> None:
    assert [r.id for r in rows(but(deployment_argument=False)).values() if r.reasons] == ["MEASURE 2.3"]
    assert [r.id for r in rows(but(approver_independent=False)).values() if r.reasons] == ["MEASURE 1.3"]
    assert rows(but(approver_independent=False))["MEASURE 1.3"].strength is Strength.NOT_COVERED


def test_dg8_leaves_background_only() -> None:
    strengths = {row.strength for row in rows(but(current=False)).values()}
    assert strengths == {Strength.CONTEXTUAL, Strength.NOT_COVERED}


def test_dg9_makes_the_mitigation_background() -> None:
    facts = but(mitigation_complete=False, artefacts=frozenset({"mitigation_comparison"}))
    assert rows(facts)["MANAGE 1.4"].strength is Strength.CONTEXTUAL


@pytest.mark.parametrize(
    ("fact", "rule"),
    [
        ("localisation_stable", "DG5"),
        ("current", "DG8"),
        ("mitigation_complete", "DG9"),
        ("approver_independent", "DG10"),
    ],
)
def test_what_the_service_cannot_know_is_not_evaluated(fact: str, rule: DowngradeId) -> None:
    facts = but(**{fact: None}, artefacts=KINDS - {"localisation"})
    assert evaluate_downgrades(facts)[rule] is Application.NOT_EVALUATED


def test_the_weaker_of_two_strengths() -> None:
    assert weaker(Strength.DIRECT, Strength.CONTEXTUAL) is Strength.CONTEXTUAL
    assert weaker(Strength.NOT_COVERED, Strength.PARTIAL) is Strength.NOT_COVERED
