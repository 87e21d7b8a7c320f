"""The DOCX holds what the view holds, as headings, tables and pictures that a word processor knows as such."""

import io
import zipfile

import pytest
from docx import Document
from docx.document import Document as Docx
from docx.oxml.ns import qn

from tests.workers.rendering.audits import make_evidence
from workers.rendering.blocks import EvidenceView, FactList, ForestChart, Heading, HeatMaps, Table
from workers.rendering.docx import render_docx
from workers.rendering.views import build_view


@pytest.fixture(scope="module", params=["en", "zh-Hant"])
def view(request: pytest.FixtureRequest) -> EvidenceView:
    return build_view(make_evidence(layers=2, heads=1), language=request.param)


@pytest.fixture(scope="module")
def made(view: EvidenceView) -> bytes:
    return render_docx(view)


@pytest.fixture(scope="module")
def document(made: bytes) -> Docx:
    return Document(io.BytesIO(made))


def headings(document: Docx, level: int) -> list[str]:
    return [p.text for p in document.paragraphs if p.style is not None and p.style.name == f"Heading {level}"]


def test_its_headings_are_the_views(document: Docx, view: EvidenceView) -> None:
    sections = [f"{section.number}  {section.title}" for section in view.sections]
    assert headings(document, 1) == [view.conclusion.title, *sections]
    inner = [block.text for section in view.sections for block in section.blocks if isinstance(block, Heading)]
    assert headings(document, 2) == [view.conclusion.meaning_title, view.conclusion.limits_title, *inner]


def test_its_tables_are_the_views_cell_by_cell(document: Docx, view: EvidenceView) -> None:
    blocks = [block for section in view.sections for block in section.blocks if isinstance(block, Table | FactList)]
    after_front = document.tables[2:]
    assert len(after_front) == len(blocks)
    for table, block in zip(after_front, blocks, strict=True):
        shown = [[cell.text for cell in row.cells] for row in table.rows]
        if isinstance(block, FactList):
            assert [name for name, _ in shown] == [name for name, _ in block.rows]
        else:
            texts = [[f"{c.text} {c.ref}" if c.ref else c.text for c in row.cells] for row in block.rows]
            assert shown == [[column.label for column in block.columns], *texts]


def test_its_pictures_are_the_views_charts_with_alternative_texts(document: Docx, view: EvidenceView) -> None:
    charts = [b for section in view.sections for b in section.blocks if isinstance(b, ForestChart | HeatMaps)]
    charts = [view.conclusion.chart, *charts] if view.conclusion.chart else charts
    described = [shape._inline.docPr.get("descr") for shape in document.inline_shapes]
    assert described == [chart.alt for chart in charts]
    assert all(shape.height < 9_000_000 for shape in document.inline_shapes)  # none is longer than a page (EMU)


def test_headers_of_tables_are_repeated_on_each_page(document: Docx) -> None:
    repeated = [table for table in document.tables if table.rows[0]._tr.findall(f".//{qn('w:tblHeader')}")]
    assert len(repeated) > 10


def test_it_names_its_language_and_the_document(document: Docx, view: EvidenceView) -> None:
    core = document.core_properties
    assert (core.language, core.identifier, core.title) == (view.language, view.document_id, view.title)
    assert view.labels["copy"] in document.sections[0].footer.paragraphs[0].text


def test_the_same_view_gives_the_same_bytes(made: bytes, view: EvidenceView) -> None:
    few = view.model_copy(update={"sections": tuple(s for s in view.sections if s.id == "disparity")})
    assert render_docx(few) == render_docx(few)
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_signs_that_xml_cannot_hold_are_spelled_out(view: EvidenceView) -> None:
    odd = view.model_copy(update={"title": "a\x0b\x00b", "subject": "\ud83d<w:p/>", "sections": ()})
    title = Document(io.BytesIO(render_docx(odd))).core_properties
    assert title.title == "a[U+000B][U+0000]b"
    assert title.subject == "[U+D83D]<w:p/>"
