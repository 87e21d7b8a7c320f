from dataclasses import replace

import numpy as np
import pytest

from audit_service.domain.behaviors import Behavior, Threshold
from audit_service.domain.generation import generate
from audit_service.domain.judgement import judge
from audit_service.domain.pairs import Pair, PairKind
from audit_service.domain.plan import Corruption, Direction, Judging, Mapping, Pilot
from audit_service.domain.power import detectable, required_clusters
from audit_service.domain.preview import FormPreview, Preview, gap_spread
from audit_service.domain.protocol import Seen, lint, lint_plan
from audit_service.domain.results import Level, LintFinding
from audit_service.domain.sentences import english
from tests.domain.made import PASSED, TRACING, audit, behavior, decisions, effects, noisy

JUDGING = Judging(delta_nats=0.1)


def linted(
    subject: Behavior | None = None, pairs: list[Pair] | None = None, **options: object
) -> dict[str, LintFinding]:
    subject = subject or behavior()
    defaults = {"tracing": TRACING, "judging": JUDGING} | options
    found = lint(behavior=subject, pairs=generate(subject).pairs if pairs is None else pairs, **defaults)
    return {finding.rule: finding for finding in found}


def test_a_sound_plan_has_nothing_but_notes() -> None:
    assert {finding.level for finding in linted().values()} <= {Level.NOTE}


@pytest.mark.parametrize(
    ("rule", "level", "options"),
    [
        ("P001", Level.NOTE, {"seen": Seen(unequal_spans=0.5)}),
        (
            "P001",
            Level.WARNING,
            {
                "seen": Seen(unequal_spans=0.5),
                "tracing": TRACING.model_copy(update={"mapping": Mapping.EQUAL_ONLY}),
            },
        ),
        ("P001", Level.NOTE, {}),
        ("P003", Level.WARNING, {"seen": Seen(low_coverage=0.1)}),
        ("P003", Level.NOTE, {}),
        ("P005", Level.WARNING, {"seen": Seen(saturated=0.05)}),
        ("P005", Level.NOTE, {}),
        ("P006", Level.WARNING, {"tracing": TRACING.model_copy(update={"corruptions": (Corruption.GAUSSIAN,)})}),
        ("P007", Level.WARNING, {"tracing": TRACING.model_copy(update={"directions": (Direction.NOISE,)})}),
        ("P008", Level.WARNING, {"tracing": TRACING.model_copy(update={"windows": (3, 5)})}),
        ("P009", Level.WARNING, {"pairs": [p for p in generate(behavior()).pairs if p.kind is PairKind.CONTRAST]}),
        ("P010", Level.WARNING, {"subject": behavior(names=2)}),
        ("P011", Level.WARNING, {"subject": behavior().model_copy(update={"threshold": Threshold(gap_nats=0.2)})}),
        ("P012", Level.WARNING, {"exploratory": True}),
        ("P013", Level.ERROR, {"judging": Judging(delta_nats=0.3)}),
        ("P014", Level.NOTE, {"subject": behavior().model_copy(update={"deployment_note": None})}),
        ("P015", Level.ERROR, {"subject": behavior(groups=("black", "asian")), "pairs": generate(behavior()).pairs}),
        ("P016", Level.NOTE, {}),
        ("P018", Level.WARNING, {"tracing": TRACING.model_copy(update={"pairs_per_form": 5})}),
        ("P018", Level.WARNING, {"traced": [pair.id for pair in generate(behavior()).pairs[:3]]}),
        ("P021", Level.ERROR, {"predecessor": "0" * 64}),
    ],
)
def test_each_rule_is_found_where_it_is_broken(rule: str, level: Level, options: dict) -> None:
    found = linted(**options)
    assert found[rule].level is level
    assert english(found[rule].sentence)
    assert english(found[rule].remedy)


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("P001", {"seen": Seen(unequal_spans=0.0)}),
        ("P003", {"seen": Seen(low_coverage=0.0)}),
        ("P005", {"seen": Seen(saturated=0.04)}),
        ("P006", {"tracing": TRACING.model_copy(update={"corruptions": (Corruption.GAUSSIAN, Corruption.PAIR)})}),
        ("P008", {"tracing": TRACING.model_copy(update={"windows": (1, 3)})}),
        ("P013", {"judging": Judging(delta_nats=0.2)}),
        ("P021", {"predecessor": "0" * 64, "exploratory": True}),
    ],
)
def test_no_rule_is_found_where_it_is_kept(rule: str, options: dict) -> None:
    assert rule not in linted(**options)


def test_a_label_that_stands_for_both_answers_collides_without_a_tokenizer() -> None:
    labels = behavior().labels.model_copy(update={"unfavorable": (" No", " Yes")})
    found = linted(behavior().model_copy(update={"labels": labels}), generate(behavior()).pairs)
    assert "' Yes'" in english(found["P002"].sentence)


def test_a_form_without_placebo_pairs_is_named() -> None:
    subject = behavior(forms=("raw", "chat"))
    pairs = [pair for pair in generate(subject).pairs if pair.kind is PairKind.CONTRAST or pair.form == "raw"]
    assert "in form chat" in english(linted(subject, pairs)["P009"].sentence)


def test_a_finished_plan_is_linted_as_its_parts() -> None:
    plan, pairs = audit()
    assert lint_plan(plan, pairs.pairs) == tuple(linted().values())


def test_findings_stand_in_the_order_of_their_rules() -> None:
    found = list(linted(exploratory=True, judging=Judging(delta_nats=0.3)))
    assert found == sorted(found)


def test_what_is_not_known_yet_is_said_and_never_taken_for_kept() -> None:
    found = linted()
    for rule in ("P001", "P003", "P004", "P005"):
        assert english(found[rule].sentence).startswith("Not evaluated yet")


def test_measured_cells_tell_coverage_and_saturation() -> None:
    _, pairs = audit()
    table = decisions(pairs.pairs, noisy(0.0), base=lambda pair: 6.0 * (pair.profile == "strong"), share=0.6)
    table.d[0, 0] = np.nan
    seen = Seen.of(table, min_coverage=0.7, unequal_spans=0.25)
    finite = table.d[np.isfinite(table.d)]
    assert (seen.unequal_spans, seen.low_coverage) == (0.25, 1.0)
    assert seen.saturated == pytest.approx(np.mean(np.abs(finite) > np.log(99)))


def test_a_preview_tells_them_from_a_sample_of_each_form() -> None:
    forms = [
        FormPreview(
            form=form,
            pairs=pairs,
            unequal_spans=share,
            coverage_mean=0.9,
            coverage_min=0.1,
            below_min_coverage=share,
            saturated=share,
        )
        for form, pairs, share in (("raw", 30, 0.5), ("chat", 10, 0.1))
    ]
    seen = Seen.of_sample(Preview(label_tokens={}, forms=tuple(forms), examples=()))
    assert (seen.unequal_spans, seen.low_coverage, seen.saturated) == pytest.approx((0.4, 0.4, 0.4))


def told(shares: dict[Direction, float], *, kept: int) -> dict[str, Level]:
    """Sentence → level of P004 where either direction's donor differs by its own share of the gap."""
    plan, pairs = audit(names=24)
    table = decisions(pairs.pairs, noisy(1.0))
    table = table.take(np.arange(len(table.pairs))[:kept])
    traced = [effects(plan, table, way, shares={}, noise=0.01) for way in shares]
    centred = [
        replace(one, d_corrupt=one.d_clean - (one.d_clean - one.d_corrupt - 1 + share))
        for one, share in zip(traced, shares.values(), strict=True)
    ]
    found = judge(plan, table, centred, [PASSED]).protocol
    return {english(one.sentence): one.level for one in found if one.rule == "P004"}


def test_a_weak_total_effect_is_told_of_the_direction_that_has_it() -> None:
    [(sentence, level)] = told({Direction.DENOISE: 1.0, Direction.NOISE: 0.0}, kept=10**6).items()
    assert sentence.startswith("Form raw, noise: clean and corrupt decisions differ too little")
    assert level is Level.WARNING


def test_a_total_effect_without_an_interval_is_not_evaluated_and_not_taken_for_strong() -> None:
    found = told(dict.fromkeys(Direction, 1.0), kept=2)
    assert [sentence.partition(":")[0] for sentence in found] == ["Form raw, denoise", "Form raw, noise"]
    assert all("not evaluated" in sentence for sentence in found)
    assert set(found.values()) == {Level.NOTE}


@pytest.mark.parametrize(
    ("options", "level", "begins"),
    [
        (
            {"judging": JUDGING.model_copy(update={"pilot": Pilot(spread_nats=0.4, source="pilot")})},
            Level.WARNING,
            "If",
        ),
        ({"seen": Seen(spread=0.4)}, Level.WARNING, "If the gaps of clusters vary by 0.4 nats"),
        ({}, Level.NOTE, "Not evaluated yet: whether the margin"),
    ],
)
def test_a_design_that_cannot_show_the_margin_is_told_before_the_run(options: dict, level: Level, begins: str) -> None:
    found = linted(behavior(names=24), **options)["P017"]
    spread = 0.2 if level is Level.NOTE else 0.4
    assert found.level is level
    assert english(found.sentence).startswith(begins)
    assert found.sentence.values["mde"] == pytest.approx(detectable(spread, clusters=24))
    assert found.remedy.values["names"] == 2 * required_clusters(spread, effect=0.1)


def test_a_design_that_can_show_the_margin_is_not_told() -> None:
    assert "P017" not in linted(behavior(names=36), seen=Seen(spread=0.1))


def test_after_the_run_the_variation_seen_tells_and_nothing_that_was_assumed() -> None:
    assert "P017" not in linted(seen=Seen(run=True))


def test_a_preview_tells_how_much_clusters_vary_but_not_by_how_much_they_differ() -> None:
    _, pairs = audit()
    table = decisions(pairs.pairs, noisy(0.3))
    contrast = [row for row, pair in enumerate(pairs.pairs) if pair.kind is PairKind.CONTRAST]
    gaps = (table.d[:, 0] - table.d[:, 1]).astype(float)
    clusters = {pairs.pairs[row].cluster for row in contrast}
    means = [np.mean([gaps[row] for row in contrast if pairs.pairs[row].cluster == name]) for name in clusters]
    assert gap_spread(pairs.pairs, table.d) == pytest.approx(np.std(means, ddof=1))
    moved = table.d + np.array([[5, 0]], dtype=np.float32)
    assert gap_spread(pairs.pairs, moved) == pytest.approx(np.std(means, ddof=1), abs=1e-5)
    assert gap_spread(pairs.pairs[:4], table.d[:4]) is None
