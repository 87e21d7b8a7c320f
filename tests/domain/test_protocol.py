import numpy as np
import pytest

from audit_service.domain.behaviors import Behavior, Threshold
from audit_service.domain.generation import generate
from audit_service.domain.pairs import Pair, PairKind
from audit_service.domain.plan import Direction, Judging, Mapping
from audit_service.domain.protocol import Preview, lint, lint_plan
from audit_service.domain.results import Level, LintFinding
from audit_service.domain.sentences import english
from tests.domain.made import TRACING, audit, behavior, decisions, noisy

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
        ("P001", Level.NOTE, {"preview": Preview(unequal_spans=0.5)}),
        (
            "P001",
            Level.ERROR,
            {
                "preview": Preview(unequal_spans=0.5),
                "tracing": TRACING.model_copy(update={"mapping": Mapping.EQUAL_ONLY}),
            },
        ),
        ("P002", Level.ERROR, {"preview": Preview(collisions=(" N",))}),
        ("P003", Level.WARNING, {"preview": Preview(coverage=np.array([0.9, 0.3, np.nan]))}),
        ("P005", Level.WARNING, {"preview": Preview(d=np.array([0.0, 5.0, np.inf]))}),
        ("P005", Level.WARNING, {"preview": Preview(d=np.array([0.0, -5.0]))}),
        ("P006", Level.WARNING, {"corruptions": ("gaussian",)}),
        ("P007", Level.WARNING, {"tracing": TRACING.model_copy(update={"directions": (Direction.NOISE,)})}),
        ("P008", Level.WARNING, {"windows": (3, 5)}),
        ("P009", Level.WARNING, {"pairs": [p for p in generate(behavior()).pairs if p.kind is PairKind.CONTRAST]}),
        ("P010", Level.WARNING, {"subject": behavior(names=2)}),
        ("P011", Level.WARNING, {"subject": behavior().model_copy(update={"threshold": Threshold(gap_nats=0.2)})}),
        ("P012", Level.WARNING, {"exploratory": True}),
        ("P013", Level.ERROR, {"judging": Judging(delta_nats=0.3)}),
        ("P014", Level.NOTE, {"subject": behavior().model_copy(update={"deployment_note": None})}),
        ("P015", Level.ERROR, {"subject": behavior(groups=("black", "asian")), "pairs": generate(behavior()).pairs}),
        ("P016", Level.NOTE, {}),
        ("P018", Level.WARNING, {"tracing": TRACING.model_copy(update={"pairs_per_form": 5})}),
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
        ("P003", {"preview": Preview(coverage=np.array([0.9, 0.5]))}),
        ("P005", {"preview": Preview(d=np.array([*np.zeros(30), 5.0]))}),
        ("P006", {"corruptions": ("gaussian", "pair")}),
        ("P008", {"windows": (1, 3)}),
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
    found = list(linted(exploratory=True, windows=(3,), judging=Judging(delta_nats=0.3)))
    assert found == sorted(found)


def test_the_preview_of_measured_cells_holds_every_prompt() -> None:
    _, pairs = audit()
    preview = Preview.of(decisions(pairs.pairs, noisy(0.1)))
    assert len(preview.d) == len(preview.coverage) == 2 * len(pairs.pairs)
