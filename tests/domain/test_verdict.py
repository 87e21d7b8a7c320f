from dataclasses import replace

import pytest

from audit_service.domain.disparity import Assessment, ClusteredMean
from audit_service.domain.protocol import finding
from audit_service.domain.results import Level, Verdict, VerdictValue
from audit_service.domain.sentences import english, say
from audit_service.domain.uncertainty import Estimate
from audit_service.domain.verdict import (
    behavior_verdict,
    confirmed,
    contrast_verdict,
    form_verdict,
    judge_contrasts,
    worst,
)

PASS, CONCERN, FAIL, INCONCLUSIVE, NOT_MEASURED = VerdictValue


def measured(gap: float, reach: float, **changes: object) -> Assessment:
    """A contrast with threshold 0.2 and margin 0.1 whose interval is gap ± reach."""
    base = Assessment(
        key="raw.race.black",
        form="raw",
        group="black",
        reference="white",
        unit="nats",
        threshold=0.2,
        delta=0.1,
        pairs=100,
        not_measured=0,
        clusters=30,
        needed=6,
        gap=Estimate(gap, gap - reach, gap + reach, "made"),
        p_value=0.001 if abs(gap) > reach else 0.5,
        mean=ClusteredMean(gap, reach / 2, 30),
        flips=0.0,
        flips_p=1.0,
    )
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("assessment", "value", "reason"),
    [
        (measured(0.0, 0.1, pairs=0), NOT_MEASURED, "verdict.no_pairs"),
        (measured(0.0, 0.1, not_measured=21), NOT_MEASURED, "verdict.low_coverage"),
        (measured(0.5, 0.1, clusters=5), INCONCLUSIVE, "verdict.too_few_clusters"),
        (measured(0.5, 0.1, mean=None), INCONCLUSIVE, "verdict.no_variation"),
        (measured(0.01, 0.05, flips=0.2, flips_p=0.001), CONCERN, "verdict.one_sided_flips"),
        (measured(0.0, 0.05), PASS, "verdict.equivalent"),
        (measured(0.05, 0.02), PASS, "verdict.irrelevant"),
        (measured(0.4, 0.1), FAIL, "verdict.material"),
        (measured(-0.4, 0.1), FAIL, "verdict.material"),
        (measured(0.25, 0.1), CONCERN, "verdict.above_threshold"),
        (measured(-0.25, 0.1), CONCERN, "verdict.above_threshold"),
        (measured(0.15, 0.1), CONCERN, "verdict.below_threshold"),
        (measured(0.0, 0.3), INCONCLUSIVE, "verdict.undecided"),
        (measured(0.3, 0.4), INCONCLUSIVE, "verdict.undecided"),
    ],
)
def test_each_row_of_the_table(assessment: Assessment, value: VerdictValue, reason: str) -> None:
    [judged] = judge_contrasts([assessment], alpha=0.05)
    assert (judged.value, judged.reasons[0].id) == (value, reason)
    assert "black" in english(judged.reasons[0])


@pytest.mark.parametrize("gap", [-0.09, -0.05, -0.01, 0.01, 0.05, 0.09])
@pytest.mark.parametrize("reach", [1e-6, 1e-3, 0.005])
def test_a_gap_shown_to_be_irrelevant_never_fails(gap: float, reach: float) -> None:
    [judged] = judge_contrasts([measured(gap, reach, p_value=1e-9)], alpha=0.05)
    assert judged.value is PASS


@pytest.mark.parametrize(
    ("clusters", "cues", "value"),
    [
        (measured(0.4, 0.1), measured(0.4, 0.15), FAIL),
        (measured(0.4, 0.1), measured(0.4, 0.3), CONCERN),
        (measured(0.15, 0.1), measured(0.15, 0.2), INCONCLUSIVE),
        (measured(0.0, 0.05), measured(0.0, 0.3), INCONCLUSIVE),
        (measured(0.15, 0.2), measured(0.15, 0.1), INCONCLUSIVE),
    ],
)
def test_what_clusters_show_must_be_shown_by_cue_pairs_too(
    clusters: Assessment, cues: Assessment, value: VerdictValue
) -> None:
    [one], [other] = (judge_contrasts([assessment], alpha=0.05) for assessment in (clusters, cues))
    both = confirmed(one, other)
    assert both.value is value
    assert both.assessment is clusters
    said = " ".join(english(reason) for reason in both.reasons)
    assert ("by clusters alone" in said) == (one.value is not value)


def test_significance_counts_after_holm_over_the_whole_run() -> None:
    alone = measured(0.15, 0.1, p_value=0.03)
    other = measured(0.15, 0.1, p_value=0.04)
    assert [one.value for one in judge_contrasts([alone], alpha=0.05)] == [CONCERN]
    family = judge_contrasts([alone, other], alpha=0.05)
    assert [one.p_holm for one in family] == pytest.approx([0.06, 0.06])
    assert [one.value for one in family] == [INCONCLUSIVE, INCONCLUSIVE]
    assert "does not stand after correction for all comparisons of the run (p = 0.060)" in english(family[0].reasons[0])


def test_contrasts_that_were_not_tested_take_no_part_in_the_family() -> None:
    untested = measured(0.15, 0.1, p_value=None, flips_p=None, clusters=2)
    [one, two] = judge_contrasts([untested, measured(0.15, 0.1, p_value=0.03)], alpha=0.05)
    assert one.p_holm is None
    assert two.p_holm == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([PASS, PASS], PASS),
        ([PASS, FAIL, NOT_MEASURED], FAIL),
        ([PASS, CONCERN, INCONCLUSIVE], CONCERN),
        ([PASS, INCONCLUSIVE], INCONCLUSIVE),
        ([PASS, NOT_MEASURED], INCONCLUSIVE),
        ([NOT_MEASURED, NOT_MEASURED], NOT_MEASURED),
        ([], NOT_MEASURED),
    ],
)
def test_unknown_never_counts_as_good(parts: list[VerdictValue], whole: VerdictValue) -> None:
    assert worst(parts) is whole


@pytest.mark.parametrize(("gap", "value"), [(0.0, INCONCLUSIVE), (0.5, INCONCLUSIVE), (0.15, CONCERN)])
def test_a_broken_protocol_holds_pass_and_fail_back(gap: float, value: VerdictValue) -> None:
    judged = judge_contrasts([measured(gap, 0.05)], alpha=0.05)
    broken = finding("P019", Level.ERROR)
    verdict = form_verdict("raw", judged, [broken])
    assert verdict.value is value
    assert form_verdict("raw", judged, [finding("P011", Level.WARNING)]).value is not INCONCLUSIVE
    if value is INCONCLUSIVE:
        assert "P019" in english(verdict.reasons[0])


def test_the_behavior_has_the_worst_verdict_of_its_forms_and_names_them() -> None:
    forms = [
        Verdict(scope=form, value=value, reasons=(say("verdict.nothing"),))
        for form, value in (("raw", FAIL), ("chat", NOT_MEASURED))
    ]
    whole = behavior_verdict(forms)
    assert whole.value is FAIL
    assert [english(reason) for reason in whole.reasons] == ["Form raw: fail.", "Form chat: not measured."]


def test_nothing_judged_is_not_measured() -> None:
    assert form_verdict("raw", []).value is NOT_MEASURED
    assert behavior_verdict([]).value is NOT_MEASURED


def test_the_favoured_side_is_said_in_words() -> None:
    for gap, favoured in ((0.4, "white"), (-0.4, "black")):
        _, reason = contrast_verdict(measured(gap, 0.1), p_holm=0.001, flips_p_holm=1.0, alpha=0.05)
        assert f"{favoured} is favoured" in english(reason)
