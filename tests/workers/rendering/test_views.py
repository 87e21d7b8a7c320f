"""Every printed number comes from a row, and the words of each language are complete."""

import json
from collections.abc import Iterator
from string import Formatter

import pytest

from audit_service.domain.behaviors import Behavior
from audit_service.domain.manifest import canonical_json
from audit_service.domain.pairs import PairSet
from audit_service.domain.plan import Corruption, Direction, Mapping
from audit_service.domain.provenance import Provenance
from audit_service.domain.results import Outcome, VerdictValue
from audit_service.domain.sentences import CATALOGUE
from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidInput
from audit_service.library.catalogue import entry
from tests.workers.rendering.audits import example, make_evidence
from workers.rendering import numbers
from workers.rendering.blocks import Cell, EvidenceView, ForestChart, HeatMaps, Table
from workers.rendering.catalogue import LANGUAGES, catalogue, read_catalogue
from workers.rendering.evidence import Evidence
from workers.rendering.frameworks import mapping_file
from workers.rendering.views import build_view


def cells(view: EvidenceView) -> Iterator[Cell]:
    yield from (line.gap for line in view.conclusion.lines)
    for section in view.sections:
        for block in section.blocks:
            if isinstance(block, Table):
                yield from (cell for row in block.rows for cell in row.cells)


def test_every_number_with_a_reference_stands_in_the_register_as_printed(view: EvidenceView) -> None:
    referring = [cell for cell in cells(view) if cell.ref]
    assert len(referring) > 100
    for cell in referring:
        assert cell.ref in view.printed
        if not cell.text.startswith("["):
            assert view.printed[cell.ref].text == cell.text


def test_every_row_of_the_register_is_a_result_of_the_run(view: EvidenceView, evidence: Evidence) -> None:
    results = evidence.judgement.results
    for ref, cell in view.printed.items():
        result = results[int(ref[1:]) - 1]
        assert result.outcome is not Outcome.MEASURED or cell.text == numbers.quantity(result.value or 0.0, result.unit)


def test_the_printed_register_lists_every_reference_once(view: EvidenceView) -> None:
    register = next(section for section in view.sections if section.id == "register")
    rows = [row.cells[0].text for block in register.blocks if isinstance(block, Table) for row in block.rows]
    assert sorted(text for text in rows if text.startswith("R")) == sorted(view.printed)


def test_charts_draw_the_unrounded_results(view: EvidenceView, evidence: Evidence) -> None:
    values = {result.value for result in evidence.judgement.results}
    assert view.conclusion.chart is not None
    assert {interval.value for interval in view.conclusion.chart.intervals} <= values
    shares = [
        b
        for s in view.sections
        for b in s.blocks
        if isinstance(b, ForestChart) and b is not view.conclusion.chart and b.zero not in b.lines and "%" in b.axis
    ]
    hundredfold = {100 * value for value in values if value is not None}
    assert {interval.value for chart in shares for interval in chart.intervals} <= hundredfold


def test_layers_that_are_not_patched_are_blank_in_the_maps() -> None:
    audit = example()
    tracing = audit.tracing.model_copy(update={"kinds": (SiteKind.RESID_PRE,), "layer_steps": {SiteKind.RESID_PRE: 2}})
    evidence = make_evidence(audit=audit.model_copy(update={"tracing": tracing}), layers=4, heads=1)
    maps = [b for s in build_view(evidence, language="en").sections for b in s.blocks if isinstance(b, HeatMaps)]
    rows = [row for one in maps for panel in one.panels for row in panel.values]
    assert rows
    assert all([value is None for value in row] == [False, True, False, True] for row in rows)


def test_worse_verdicts_and_larger_gaps_come_first(view: EvidenceView) -> None:
    assert [line.tone for line in view.conclusion.lines] == ["fail", "concern"]


def test_the_threshold_lines_are_the_plans(view: EvidenceView, evidence: Evidence) -> None:
    threshold = evidence.plan.behavior.threshold.gap_nats
    assert view.conclusion.chart is not None
    assert view.conclusion.chart.lines == (-threshold, threshold)


def test_the_other_charts_show_the_noise_floor(view: EvidenceView, evidence: Evidence) -> None:
    values = {result.key: result.value for result in evidence.judgement.results}
    blocks = [block for section in view.sections for block in section.blocks]
    (flips,) = (b for b in blocks if isinstance(b, ForestChart) and "%" in b.axis)
    assert flips.lines == (100 * max(values[f"{form}.placebo.flip_rate"] or 0.0 for form in ("raw", "chat")),)
    maps = [b for b in blocks if isinstance(b, HeatMaps)]
    assert [b.floor for b in maps] == [
        max(values[f"{form}.{direction}.placebo_floor"] or 0.0 for direction in ("denoise", "noise"))
        for form in ("raw", "chat")
    ]


def test_the_worse_form_comes_first_in_every_table_of_results(evidence: Evidence) -> None:
    raw, chat = evidence.judgement.forms
    swapped = (raw.model_copy(update={"value": chat.value}), chat.model_copy(update={"value": raw.value}))
    judgement = evidence.judgement.model_copy(update={"forms": swapped})
    view = build_view(evidence.model_copy(update={"judgement": judgement}))
    results = [s for s in view.sections if s.id in {"disparity", "localisation", "robustness", "findings"}]
    tables = [block for section in results for block in section.blocks if isinstance(block, Table)]
    by_form = [table for table in tables if table.columns[0].label == catalogue("en")("column.form")]
    assert len(by_form) > 8
    for table in by_form:
        assert list(dict.fromkeys(row.cells[0].text for row in table.rows)) == ["chat", "raw"], table.caption


def test_a_view_survives_json(view: EvidenceView) -> None:
    assert EvidenceView.model_validate_json(view.model_dump_json()) == view


def test_a_language_without_a_catalogue_is_refused(evidence: Evidence) -> None:
    with pytest.raises(InvalidInput, match="xx"):
        build_view(evidence, language="xx")


def test_the_catalogues_say_the_same_things_with_the_same_values() -> None:
    english, chinese = catalogue("en").texts, catalogue("zh-Hant").texts
    rationales = {key for key in chinese if key.startswith(("rationale.", "estimator."))}
    assert set(english) == set(chinese) - rationales
    assert {key: fields(text) for key, text in english.items()} == {key: fields(chinese[key]) for key in english}


@pytest.mark.parametrize("language", LANGUAGES)
def test_whatever_a_plan_may_trace_has_a_name_in_each_language(language: str) -> None:
    said = catalogue(language)
    names = [f"site.{kind}" for kind in SiteKind] + [f"direction.{way}" for way in Direction]
    names += [f"criteria.mapping.{mapping}" for mapping in Mapping] + [f"corruption.{kind}" for kind in Corruption]
    assert [name for name in names if not said.has(name)] == []


def test_the_chinese_catalogue_has_every_rationale_and_every_sentence() -> None:
    texts = read_catalogue("zh-Hant")
    rows = [(name, row.id) for name, mapping in mapping_file().mappings.items() for row in mapping]
    assert [row for row in rows if "rationale.{}.{}".format(*row) not in texts] == []
    assert all(f"said.{sentence}" in texts for sentence in CATALOGUE)


def test_every_estimator_of_a_run_has_chinese_words(evidence: Evidence) -> None:
    english, chinese = catalogue("en"), catalogue("zh-Hant")
    methods = {result.method for result in evidence.judgement.results}
    unsaid = [part for method in methods for part in method.split("; ") if part == chinese.method(part)]
    assert sorted(set(unsaid)) == ["(b + c) / n"]
    assert all(english.method(method).replace("\u00a0", " ") == method for method in methods)


def test_numbers_in_an_estimator_are_kept() -> None:
    assert catalogue("zh-Hant").method("mean paired gap; cluster bootstrap BCa 90 %") == (
        "成對平均差距；群集自助法 BCa 90\u00a0%"
    )
    assert catalogue("zh-Hant").method("an estimator of tomorrow") == "an estimator of tomorrow"


def fields(text: str) -> list[tuple[str | None, str | None]]:
    return sorted((name, spec) for _, name, spec, _ in Formatter().parse(text) if name is not None)


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_pair_makes_a_document(language: str) -> None:
    whole = make_evidence(layers=2, heads=1).pair_set
    one = make_evidence(pair_set=whole.model_copy(update={"pairs": whole.pairs[:1]}), layers=2, heads=1)
    view = build_view(one, language=language)
    assert view.conclusion.lines
    assert json.loads(view.model_dump_json())["document_id"].startswith("AE-")


def _datasheet(evidence: Evidence) -> str:
    [section] = [section for section in build_view(evidence, language="en").sections if section.id == "datasheet"]
    return section.blocks[0].model_dump_json()


def test_the_datasheet_tells_what_was_looked_up_from_what_was_not(evidence: Evidence) -> None:
    def section(behavior: Behavior, language: str) -> str:
        plan = evidence.plan.model_copy(update={"behavior": behavior})
        view = build_view(evidence.model_copy(update={"plan": plan}), language=language)
        return next(section for section in view.sections if section.id == "datasheet").model_dump_json()

    assert "Sources of the words" not in section(evidence.plan.behavior, "en")
    sourced = entry("mortgage-denial-race").audit.behavior
    shown = section(sourced, "en")
    assert "per cent of the bearers who gave that group: Banks 54.51, Booker 65.22" in shown
    assert shown == section(Behavior.model_validate_json(canonical_json(sourced)), "en")  # as a bundle holds it
    assert "looked up: 3, not looked up: 0, the author's own: 1" in shown
    assert "signal less strongly than the others" in shown
    assert "漢人為臺灣人口最多的族群" in section(entry("loan-denial-origin-stated-zh").audit.behavior, "zh-Hant")


def test_the_datasheet_says_how_the_pairs_came_about(evidence: Evidence) -> None:
    """Generated, uploaded as they are, or imported: only of generated pairs is it known that no person is in them."""
    generated = _datasheet(evidence)
    assert "one template filled with one applicant profile" in generated
    assert "profiles are invented" in generated
    pair = evidence.pair_set.pairs[0]
    uploaded = PairSet(name="x", pairs=(pair.model_copy(update={"template": "uploaded"}),))
    shown = _datasheet(make_evidence(pair_set=uploaded, layers=2, heads=1))
    assert "were uploaded as they are" in shown
    assert "profiles are invented" not in shown
    provenance = Provenance(
        data_set="A data set (2020)",
        file="set.csv",
        sha256="ab" * 32,
        rows=1200,
        left_out={"other type": 7},
        conversion="A row is a pair.",
        limits=("Flawed.",),
        converter="audit-service",
    )
    imported = PairSet(name="x", pairs=uploaded.pairs, provenance=provenance)
    shown = _datasheet(make_evidence(pair_set=imported, layers=2, heads=1))
    for said in (
        "A data set (2020)",
        "set.csv, SHA-256 abab",
        "1,200",
        "other type (7)",
        "A row is a pair.",
        "Flawed.",
    ):
        assert said in shown
    assert "profiles are invented" not in shown


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (-0.21694, "nats", "−0.217"),
        (0.0004, "nats", "0.000"),
        (-0.0004, "nats", "0.000"),
        (7.7854, "percentage points", "+7.8"),
        (0.14814, "share", "14.8\u00a0%"),
        (-0.02, "share", "−2.0\u00a0%"),
        (0.85185, "ratio", "0.85"),
        (1234.0, "count", "1,234"),
        (0.0003, "p", "< 0.001"),
        (0.0149, "p", "0.015"),
        (1.0, "p", "1.000"),
    ],
)
def test_numbers_look_as_their_unit_asks(value: float, unit: str, text: str) -> None:
    assert numbers.quantity(value, unit) == text


def test_a_gap_that_is_significant_and_irrelevant_is_no_failure_in_the_example() -> None:
    """Each form says what was found, with the placebo flips beside the real ones."""
    audit = example()
    apart = audit.behavior.model_copy(update={"threshold": audit.behavior.threshold.model_copy(update={"gap_nats": 2})})
    wide = audit.judging.model_copy(update={"delta_nats": 1.0})
    found = make_evidence(audit=audit.model_copy(update={"behavior": apart, "judging": wide}), layers=2, heads=1)
    judgement = found.judgement
    for form in judgement.forms:
        gap = next(row for row in judgement.results if row.key == f"{form.scope}.race.black.gap_nats")
        assert gap.p_value is not None
        assert gap.p_value < 0.05
        assert form.value in {VerdictValue.PASS, VerdictValue.CONCERN}
        assert form.value is not VerdictValue.FAIL
    said = {one.values["form"]: one.values for one in judgement.statements if one.id == "disparity.flips"}
    assert set(said) == {form.scope for form in judgement.forms}
    assert all("placebo" in values for values in said.values())
