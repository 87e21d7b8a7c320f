"""What people and other runs put on record is told in the report, and decides the downgrades that ask for it."""

from datetime import timedelta

import pytest

from audit_service.domain.comparison import Currency
from audit_service.domain.drift import Change
from audit_service.domain.generation import generate
from tests.workers.rendering.audits import (
    NOON,
    Audit,
    deployed,
    earlier_run,
    example,
    make_audit,
    make_evidence,
    make_plan,
    with_records,
)
from workers.rendering.blocks import Block, EvidenceView, Table
from workers.rendering.catalogue import LANGUAGES, catalogue
from workers.rendering.context import Context
from workers.rendering.evidence import Evidence
from workers.rendering.views import build_view


@pytest.fixture(scope="module")
def before() -> Audit:
    return make_audit(layers=2, heads=1, gap=0.05)


@pytest.fixture(scope="module")
def recorded(before: Audit) -> Evidence:
    return with_records(before, make_audit(layers=2, heads=1))


def blocks(view: EvidenceView, section: str) -> tuple[Block, ...]:
    return next(one for one in view.sections if one.id == section).blocks


def tables(view: EvidenceView, section: str, caption: str) -> list[Table]:
    return [block for block in blocks(view, section) if isinstance(block, Table) and block.caption == caption]


def downgrades(evidence: Evidence) -> dict[str, str]:
    return {name: str(state) for name, state in Context.of(evidence, catalogue("en")).downgrades().items()}


def test_the_change_since_the_last_accepted_run_is_the_comparisons(recorded: Evidence, before: Audit) -> None:
    view = build_view(recorded)
    shown, again = tables(view, "findings", catalogue("en")("comparison.disparities"))
    drift = {result.key: result for result in recorded.comparison.drift.results} if recorded.comparison else {}
    old = {result.key: result.value for result in before.evidence.judgement.results}
    new = {result.key: result.value for result in recorded.judgement.results}
    for table in (shown, again):
        for row in table.rows:
            form, _, was, now, change, *_ = (cell.text for cell in row.cells)
            key = f"{form}.race.black.gap_nats"
            texts = (old[key], new[key], drift[f"drift.{form}.race.black.gap_change_nats"].value)
            assert (was, now, change) == tuple(f"{value:+.3f}".replace("-", "−") for value in texts if value)


def test_a_changed_disparity_is_called_changed(recorded: Evidence) -> None:
    assert recorded.comparison is not None
    assert recorded.comparison.drift.output is Change.CHANGED
    assert "Disparities: changed." in build_view(recorded).model_dump_json()


def test_every_record_is_told(recorded: Evidence) -> None:
    said = build_view(recorded).model_dump_json()
    for text in (
        "We accept the finding. Action: Retrain on balanced data. Owner: user:modelling. Due: 2027-03-21.",
        "Used by four people under supervision",
        "2026-11-21 (expired)",
        "Asked for: user:head-of-credit (Head of credit), 2026-11-23. Accepted: user:second-line (Validator)",
        "Not decided on; it does not hold.",
        "Scaling of head 1 in layer 1",
        "Scaled by 0.5. Fitted or chosen on: Forty pairs of other templates and names.",
        "Share of the reference group approved, form raw, pairs of black",
        "production, loan desk",
        "neutral.accuracy_change",
        "Accepted",
        "Submitted",
        "Earlier editions",
    ):
        assert text in said


def test_what_ends_first_stands_first(recorded: Evidence) -> None:
    (table,) = tables(build_view(recorded), "findings", catalogue("en")("acceptance.caption"))
    assert [row.cells[0].text for row in table.rows] == ["EX-2", "RA-7"]


def test_without_records_the_report_says_so() -> None:
    said = build_view(make_evidence(layers=1, heads=1)).model_dump_json()
    for name in ("mitigation", "previous", "exceptions", "response"):
        assert catalogue("en")(f"findings.{name}.none") in said


def test_complete_records_lift_every_downgrade_that_asks_for_them(recorded: Evidence) -> None:
    states = downgrades(recorded)
    assert {states[name] for name in ("DG1", "DG8", "DG9", "DG10")} == {"holds"}


OTHER = deployed(make_plan(example(), generate(example().behavior)).model).model_copy(update={"digest": "f" * 64})
"""Another version than the audited one in use."""


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("DG1", {"approvals": ()}),
        ("DG1", {"editions": ()}),
        ("DG8", {"currency": Currency(due=NOON)}),
        ("DG8", {"currency": Currency(deployments=(OTHER,))}),
    ],
)
def test_a_missing_or_overdue_record_lowers(recorded: Evidence, name: str, change: dict[str, object]) -> None:
    assert downgrades(recorded.model_copy(update=change))[name] == "applies"


def test_an_approval_by_the_author_is_no_review(recorded: Evidence) -> None:
    own = tuple(one.model_copy(update={"person": recorded.run.requested_by}) for one in recorded.approvals)
    states = downgrades(recorded.model_copy(update={"approvals": own}))
    assert (states["DG1"], states["DG10"]) == ("applies", "applies")


def test_a_mitigation_on_other_pairs_or_without_side_effects_is_incomplete(recorded: Evidence) -> None:
    (measure,) = recorded.mitigations
    other = measure.before.model_copy(update={"pair_set_digest": "f" * 64})
    for change in ({"side_effects": ()}, {"before": other}):
        weaker = recorded.model_copy(update={"mitigations": (measure.model_copy(update=change),)})
        assert downgrades(weaker)["DG9"] == "applies"
        assert "DG9" in build_view(weaker).model_dump_json()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_printed_number_of_a_comparison_stands_in_the_register(recorded: Evidence, language: str) -> None:
    view = build_view(recorded, language=language)
    register = {
        row.cells[1].text for block in blocks(view, "register") if isinstance(block, Table) for row in block.rows
    }
    assert {"accepted.raw.race.black.gap_nats", "mitigation1.drift.raw.race.black.gap_change_nats"} <= register


def test_the_document_is_dated_by_its_youngest_record(recorded: Evidence) -> None:
    assert recorded.issued_at == NOON + timedelta(days=2, hours=1)
    assert build_view(recorded).issued_day == "2026-11-23"


def test_other_versions_in_use_stand_first_and_make_the_report_stale(recorded: Evidence) -> None:
    both = (*recorded.currency.deployments, OTHER.model_copy(update={"place": "z, the branch"}))
    view = build_view(recorded.model_copy(update={"currency": Currency(deployments=both)}))
    (table,) = tables(view, "model", catalogue("en")("deployment.caption"))
    assert [(row.cells[0].text, row.cells[4].text) for row in table.rows] == [
        ("z, the branch", "no"),
        ("production, loan desk", "yes"),
    ]
    assert view.cover.notices[0] == catalogue("en")("cover.stale")
    assert build_view(recorded).cover.notices[0] != catalogue("en")("cover.stale")


def test_an_audit_that_is_overdue_and_one_that_was_superseded_say_so(recorded: Evidence, before: Audit) -> None:
    later = earlier_run(before).model_copy(update={"ended_at": NOON + timedelta(days=9)})
    shown = recorded.model_copy(update={"currency": Currency(due=NOON, superseded=later)})
    said = build_view(shown).model_dump_json()
    assert "The next audit is overdue" in said
    assert f"{later.document_id}, {later.model.name} {later.model.version}, 2026-11-30" in said
    assert shown.issued_at == NOON + timedelta(days=9)
