"""What the finished PDF says and what it is."""

import io
import json
import re
from collections import Counter

import page
import pikepdf
import pytest
from pypdf import PdfReader

from audit_service.domain.manifest import canonical_json, digest
from workers.rendering.evidence import Evidence
from workers.rendering.frameworks import iso, mapping_file, nist
from workers.rendering.reading import difference
from workers.rendering.report import Report, make_report
from workers.rendering.sections.front import must_say
from workers.rendering.views import build_view


def squeezed(text: str) -> str:
    return "".join(text.split())


def test_it_prints_every_mandatory_sentence(report: Report, words: str) -> None:
    for sentence in must_say(report.language):
        assert squeezed(sentence) in words


def test_it_never_prints_a_banned_word(report: Report, words: str) -> None:
    for sentence in must_say(report.language):
        words = words.replace(squeezed(sentence), "")
    for banned in mapping_file().never_print[:-1]:  # the last is a description, not a word
        assert not re.search(re.escape(squeezed(banned)), words, re.IGNORECASE), banned


def test_every_subcategory_of_the_ai_rmf_appears_exactly_once(words: str) -> None:
    printed = Counter(re.findall(r"(?:GOVERN|MAP|MEASURE|MANAGE)\d\.\d{1,2}", words))
    assert printed == Counter(squeezed(item) for item in nist().items)
    assert len(printed) == 72


def test_every_control_of_annex_a_appears_exactly_once(words: str) -> None:
    controls = [item for item in iso().items if item.startswith("A.")]
    assert len(controls) == 38
    assert all(words.count(squeezed(f"{item}{iso().items[item].titles[0]}")) <= 1 for item in controls)


def test_each_page_says_which_document_it_is_and_which_page(reader: PdfReader, evidence: Evidence) -> None:
    pages = len(reader.pages)
    for number, sheet in enumerate(reader.pages[1:], start=2):
        text = sheet.extract_text()
        assert evidence.document_id in text
        assert f"{number} / {pages}" in text


def test_it_prints_every_digest_needed_to_perform_it_again(words: str, evidence: Evidence) -> None:
    plan = evidence.plan
    digests = [plan.digest, plan.model.digest, plan.pair_set.digest, digest(evidence), *plan.model.files.values()]
    assert all(value in words for value in digests)
    assert all(shard.digest in words for shard in evidence.shards)


def test_it_carries_the_evidence_it_was_made_of(reader: PdfReader, evidence: Evidence) -> None:
    (attached,) = reader.attachments["evidence.json"]
    assert attached == canonical_json(evidence)
    assert Evidence.model_validate_json(attached) == evidence


def test_it_has_bookmarks_title_language_and_tags(reader: PdfReader, report: Report, evidence: Evidence) -> None:
    with pikepdf.open(io.BytesIO(report.pdf)) as pdf:
        assert pdf.Root.Lang == report.language
        assert pdf.Root.MarkInfo.Marked
        assert pdf.Root.AF[0].AFRelationship == "/Data"
    assert reader.metadata is not None
    assert evidence.plan.behavior.title in str(reader.metadata.title)
    assert len([entry for entry in reader.outline if not isinstance(entry, list)]) >= 18


@pytest.mark.parametrize("profile", ["3a", "ua1"])
def test_it_is_pdf_a_3a_and_pdf_ua_1(report: Report, profile: str) -> None:
    found = page.validate_pdf_bytes(report.pdf, profile=profile)
    assert [f"{failure.rule_id}: {failure.message}" for failure in found.failures] == []
    assert found.rules.total > 100


def test_every_figure_has_an_alternative_text_with_its_numbers(report: Report, reader: PdfReader) -> None:
    with pikepdf.open(io.BytesIO(report.pdf)) as pdf:
        figures = [o for o in pdf.objects if isinstance(o, pikepdf.Dictionary) and o.get("/S") == "/Figure"]
        assert len(figures) == 5  # gaps twice, flips, heat maps of two forms
        assert all(any(sign.isdigit() for sign in str(figure.Alt)) for figure in figures)


def test_every_font_is_embedded_and_chinese_has_a_chinese_one(report: Report) -> None:
    with pikepdf.open(io.BytesIO(report.pdf)) as pdf:
        fonts = [o for o in pdf.objects if isinstance(o, pikepdf.Dictionary) and o.get("/Type") == "/FontDescriptor"]
        names = [str(font.FontName) for font in fonts]
        assert all("/FontFile3" in font or "/FontFile2" in font for font in fonts)
    assert any("Plex" in name for name in names)
    assert any("CJK" in name for name in names) is (report.language == "zh-Hant")


@pytest.mark.parametrize("report", ["zh-Hant"], indirect=True)  # the longer way through the fonts; each takes seconds
def test_the_same_evidence_gives_the_same_bytes(report: Report, evidence: Evidence) -> None:
    again = make_report(Evidence.model_validate_json(canonical_json(evidence)), language=report.language)
    assert again == report


def test_its_pages_say_what_the_view_says_sign_by_sign(report: Report, evidence: Evidence) -> None:
    view = build_view(evidence, language=report.language)
    assert difference(report.pdf, view) is None
    said = view.conclusion.model_copy(update={"answer": view.conclusion.answer + "?"})
    place = difference(report.pdf, view.model_copy(update={"conclusion": said}))
    assert place is not None
    assert place.startswith("page 2 does not say")
    assert difference(report.pdf, view.model_copy(update={"sections": view.sections[:-1]})) is not None


def test_html_and_json_say_the_same_as_the_pdf(report: Report, words: str) -> None:
    view = json.loads(report.json)
    for section in view["sections"]:
        assert section["title"] in report.html
        assert squeezed(section["title"]) in words


@pytest.mark.parametrize("name", ["http://", "https://", "file://", 'src="//'])
def test_the_html_asks_for_nothing_from_elsewhere(report: Report, name: str) -> None:
    assert not re.search(rf'(?:src|href)="{re.escape(name)}', report.html)
