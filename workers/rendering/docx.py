"""The finished view as DOCX, for those who paste into a template of their own: real headings, tables and pictures."""

import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from datetime import datetime

from docx import Document
from docx.document import Document as Docx
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.oxml.xmlchemy import BaseOxmlElement
from docx.shared import Length, Mm, Pt, RGBColor
from docx.table import Table as DocxTable
from docx.table import _Cell, _Row
from docx.text.paragraph import Paragraph as DocxParagraph

from workers.rendering.blocks import (
    Block,
    Bullets,
    Callout,
    Cell,
    Commands,
    Conclusion,
    EvidenceView,
    FactList,
    ForestChart,
    Heading,
    HeatMaps,
    Paragraph,
    PromptText,
    Section,
    Table,
)
from workers.rendering.charts import CHINESE, chart_png
from workers.rendering.container import pack

TEXT_WIDTH = Mm(170)
LATIN = "IBM Plex Sans"
"""Word takes the nearest font where these are missing."""
_MUTED = RGBColor(0x55, 0x61, 0x6D)
_NO_XML = re.compile(r"[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


def render_docx(view: EvidenceView) -> bytes:
    """The document in Word's format; equal input gives equal bytes.

    Signs that XML cannot hold are printed as code points. The copy carries no signature and says so.
    """
    document = Document()
    _prepare(document, view)
    _cover(document, view)
    _conclusion(document, view.conclusion)
    for section in view.sections:
        _section(document, section)
    stream = io.BytesIO()
    document.save(stream)
    return _settled(stream.getvalue())


def _settled(content: bytes) -> bytes:
    """The same parts in a container without dates."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return pack({name: archive.read(name) for name in archive.namelist()}, compressed=True)


def _prepare(document: Docx, view: EvidenceView) -> None:
    page = document.sections[0]
    page.page_width, page.page_height = Mm(210), Mm(297)
    page.left_margin = page.right_margin = Mm(20)
    normal = document.styles["Normal"]
    normal.font.name, normal.font.size = LATIN, Pt(9.5)
    fonts = normal.element.get_or_add_rPr().get_or_add_rFonts()
    fonts.set(qn("w:eastAsia"), CHINESE)
    language = OxmlElement("w:lang")
    language.set(qn("w:eastAsia" if view.language.startswith("zh") else "w:val"), view.language)
    normal.element.rPr.append(language)
    core, issued = document.core_properties, datetime.fromisoformat(view.issued)
    core.title, core.subject, core.author = _xml(view.title), _xml(view.subject), "audit-service"
    core.created = core.modified = issued
    core.language, core.identifier, core.comments = view.language, view.document_id, ""
    page.header.paragraphs[0].text = _xml(f"{view.document_id}  {view.title}")
    page.footer.paragraphs[0].text = f"{view.issued_day}  {view.labels['copy']}"


def _xml(text: str) -> str:
    return _NO_XML.sub(lambda sign: f"[U+{ord(sign[0]):04X}]", text)


def _cover(document: Docx, view: EvidenceView) -> None:
    cover = view.cover
    document.add_paragraph(_xml(cover.kicker))
    document.add_paragraph(_xml(cover.title), style="Title")
    document.add_paragraph(_xml(cover.subtitle), style="Subtitle")
    paragraph = document.add_paragraph(f"{cover.verdict_label}: ")
    paragraph.add_run(_xml(cover.verdict)).bold = True
    _pairs(document, cover.facts)
    for notice in (*cover.notices, view.labels["copy"]):
        _muted(document.add_paragraph(_xml(notice)))


def _conclusion(document: Docx, page: Conclusion) -> None:
    heading = document.add_heading(_xml(page.title), level=1)
    heading.paragraph_format.page_break_before = True
    document.add_paragraph(_xml(page.question))
    paragraph = document.add_paragraph()
    paragraph.add_run(_xml(f"{page.verdict}. ")).bold = True
    paragraph.add_run(_xml(page.answer))
    rows = [
        (
            Cell(text=line.scope),
            line.gap,
            Cell(text=line.interval),
            Cell(text=line.interval_by_cues),
            Cell(text=line.threshold),
            Cell(text=line.verdict, style="status"),
        )
        for line in page.lines
    ]
    _grid(document, page.columns, rows)
    _bullets(document, (*page.plain, *page.reasons))
    if page.chart:
        _figure(document, page.chart)
    for title, texts in ((page.meaning_title, page.meaning), (page.limits_title, page.limits)):
        document.add_heading(_xml(title), level=2)
        for text in texts:
            document.add_paragraph(_xml(text))


def _section(document: Docx, section: Section) -> None:
    document.add_heading(_xml(f"{section.number}  {section.title}"), level=1)
    for block in section.blocks:
        _block(document, block)


def _block(document: Docx, block: Block) -> None:
    match block:
        case Paragraph(text=text, refs=refs):
            document.add_paragraph(_xml(" ".join([text, *refs])))
        case Heading(text=text):
            document.add_heading(_xml(text), level=2)
        case Bullets(items=items):
            _bullets(document, items)
        case Callout(title=title, text=text):
            document.add_paragraph().add_run(_xml(title)).bold = True
            document.add_paragraph(_xml(text), style="Intense Quote")
        case FactList(caption=caption, rows=rows):
            _caption(document, caption)
            _pairs(document, rows)
        case Table():
            _table(document, block)
        case PromptText(title=title, pieces=pieces):
            _caption(document, title)
            _prompt(document, pieces)
        case Commands(title=title, lines=lines):
            _caption(document, title)
            document.add_paragraph(_xml("\n".join(lines)), style="No Spacing")
        case ForestChart() | HeatMaps():
            _figure(document, block)


def _bullets(document: Docx, items: Iterable[str]) -> None:
    for item in items:
        document.add_paragraph(_xml(item), style="List Bullet")


def _prompt(document: Docx, pieces: Iterable[tuple[str, bool]]) -> None:
    paragraph = document.add_paragraph(style="No Spacing")
    for text, is_cue in pieces:
        run = paragraph.add_run(_xml(text))
        run.bold = run.underline = is_cue


def _caption(document: Docx, text: str) -> DocxParagraph:
    paragraph = document.add_paragraph(_xml(text), style="Caption")
    paragraph.paragraph_format.keep_with_next = True
    return paragraph


def _figure(document: Docx, chart: ForestChart | HeatMaps) -> None:
    picture = document.add_picture(io.BytesIO(chart_png(chart)), width=TEXT_WIDTH)
    picture._inline.docPr.set("descr", _xml(chart.alt))
    document.add_paragraph(_xml(chart.caption), style="Caption")


def _pairs(document: Docx, rows: Sequence[tuple[str, Cell]]) -> None:
    """Names beside values."""
    table = document.add_table(rows=len(rows), cols=2, style="Table Grid")
    for row, (name, value) in zip(table.rows, rows, strict=True):
        _fill(row, (Cell(text=name), value))
    _widths(table, (Mm(55), Mm(115)))


def _table(document: Docx, block: Table) -> None:
    _caption(document, block.caption)
    labels, rows = [column.label for column in block.columns], [row.cells for row in block.rows]
    _grid(document, labels, rows, widths=_shares([column.width for column in block.columns]))
    if block.note:
        _muted(document.add_paragraph(_xml(block.note)))


def _shares(widths: Sequence[str | None]) -> list[Length]:
    """The columns' widths; those that name none share what is left."""
    named = [None if width is None else float(width.removesuffix("%")) / 100 for width in widths]
    left = 1 - sum(share for share in named if share is not None)
    rest = left / max(1, named.count(None))
    return [Length(round(TEXT_WIDTH * (rest if share is None else share))) for share in named]


def _grid(
    document: Docx, labels: Sequence[str], rows: Sequence[Sequence[Cell]], *, widths: Sequence[Length] | None = None
) -> None:
    """A table whose first row is its header, on every page that it reaches; without widths all columns are alike."""
    table = document.add_table(rows=len(rows) + 1, cols=len(labels), style="Table Grid")
    if widths:
        table.autofit = False
        _widths(table, widths)
    head, *others = table.rows
    _fill(head, [Cell(text=label, style="status") for label in labels])
    header: BaseOxmlElement = OxmlElement("w:tblHeader")
    head._tr.get_or_add_trPr().append(header)
    for row, cells in zip(others, rows, strict=True):
        _fill(row, cells)


def _fill(row: _Row, cells: Sequence[Cell]) -> None:
    for place, cell in zip(row.cells, cells, strict=True):
        _write(place, cell)


def _write(place: _Cell, cell: Cell) -> None:
    run = place.paragraphs[0].add_run(_xml(cell.text))
    run.bold = cell.style == "status"
    run.font.size = Pt(8)
    if cell.style == "code":
        run.font.name = "IBM Plex Mono"
    if cell.ref:
        reference = place.paragraphs[0].add_run(f" {cell.ref}")
        reference.font.size, reference.font.color.rgb = Pt(6.5), _MUTED


def _widths(table: DocxTable, widths: Sequence[Length]) -> None:
    """Programs differ in whether they read the columns' widths or the cells'."""
    for column, width in zip(table.columns, widths, strict=True):
        column.width = width
    for row in table.rows:
        for cell, width in zip(row.cells, widths, strict=True):
            cell.width = width


def _muted(paragraph: DocxParagraph) -> None:
    for run in paragraph.runs:
        run.font.size, run.font.color.rgb = Pt(8), _MUTED
