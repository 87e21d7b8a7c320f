"""What the report says of power, of choices that could have changed the result, and of sites exchanged together."""

from collections.abc import Sequence

import pytest

from audit_service.domain.results import Result
from audit_service.domain.sentences import english
from workers.rendering.blocks import Bullets, EvidenceView, Table
from workers.rendering.catalogue import LANGUAGES, catalogue
from workers.rendering.context import Context
from workers.rendering.evidence import Evidence
from workers.rendering.sections.assurance import _grouped
from workers.rendering.views import build_view


def blocks(view: EvidenceView, section: str) -> Sequence[object]:
    return next(part for part in view.sections if part.id == section).blocks


def tables(view: EvidenceView, section: str) -> dict[str, list[list[str]]]:
    found = [block for block in blocks(view, section) if isinstance(block, Table)]
    return {table.caption: [[cell.text for cell in row.cells] for row in table.rows] for table in found}


def test_what_the_design_could_detect_is_printed_as_it_was_said_before_the_run(
    view: EvidenceView, evidence: Evidence
) -> None:
    said = [items for block in blocks(view, "criteria") if isinstance(block, Bullets) for items in block.items]
    assert len(evidence.power) > 1
    assert [line.replace("\u00a0", " ") for line in said] == [english(one) for one in evidence.power]


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_choice_stands_with_what_it_can_change(evidence: Evidence, language: str) -> None:
    t = catalogue(language)
    rows = tables(build_view(evidence, language=language), "robustness")[t("robustness.choices")]
    by_axis: dict[str, list[list[str]]] = {}
    for scope, axis, _, verdict, site in rows:
        by_axis.setdefault(axis, []).append([scope, verdict, site])
    nothing = t("robustness.no_bearing")
    for axis in ("direction", "corruption"):
        assert {verdict for _, verdict, _ in by_axis[t(f"robustness.axis.{axis}")]} == {nothing}
    for axis in ("unit", "form"):
        assert {site for _, _, site in by_axis[t(f"robustness.axis.{axis}")]} == {nothing}
    for axis in ("metric", "prompts"):
        assert nothing not in {verdict for _, verdict, _ in by_axis[t(f"robustness.axis.{axis}")]}
    forms = {form.name for form in evidence.plan.behavior.forms}
    assert {row[0] for row in rows} == forms | {t("robustness.behavior")}


def test_every_specification_with_another_verdict_is_named(evidence: Evidence) -> None:
    context = Context.of(evidence, catalogue("en"))
    names = [
        "log-odds, by cluster, part 2 of the prompts",
        "log-odds, by cluster, part 7 of the prompts",
        "probability, by cues, all prompts",
        "log-odds, by cluster, part 2 of the prompts, form raw alone",
    ]
    said = list(_grouped(context, names))
    assert len(said) == 3
    assert said[0].endswith("parts 2, 7 of the prompts")
    assert "form raw alone" in said[2]
    assert list(_grouped(context, [])) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_sites_exchanged_together_are_printed_largest_excess_first(evidence: Evidence, language: str) -> None:
    one, other, third = (site.key for site in evidence.plan.sites[:3])
    added = [
        row
        for second, excess in ((other, 0.1), (third, -0.4))
        for key in (f"raw.denoise.joint.{one}+{second}",)
        for row in (
            Result(key=key, value=excess, low=excess - 0.05, high=excess + 0.05, unit="nats", n=12, method="mean"),
            Result(key=f"{key}.together", value=0.7, unit="nats", method="mean"),
            Result(key=f"{key}.p_maxt", value=0.01, unit="p", method="max-T"),
        )
    ]
    judgement = evidence.judgement.model_copy(update={"results": (*evidence.judgement.results, *added)})
    view = build_view(evidence.model_copy(update={"judgement": judgement}), language=language)
    t = catalogue(language)
    rows = tables(view, "localisation")[t("localisation.together", form="raw")]
    assert [row[4] for row in rows] == ["\u22120.400", "+0.100"]
    assert {row[0] for row in rows} == {t("direction.denoise")}
    assert t("localisation.together", form="raw") not in tables(build_view(evidence, language=language), "localisation")
