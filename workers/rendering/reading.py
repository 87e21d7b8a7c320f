"""Reads a report's pages and compares them, sign by sign and in their order, with what the view says.

A seal shows that no byte was changed; whoever rewrites a page can seal it again. What the pages say must then still be
what follows from the attached evidence: nothing may be left out, changed or added.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple
from unicodedata import bidirectional, category
from xml.etree import ElementTree as ET

import pypdfium2 as pdfium

from workers.rendering.blocks import (
    Block,
    Bullets,
    Callout,
    Cell,
    Commands,
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
from workers.rendering.charts import chart_svg
from workers.rendering.pdf import spell_out

BREAK = "\f"
"""Stands between pages; no text of a page has it."""
_HYPHEN = "\ufffe"
"""How PDFium tells of a hyphen at the end of a line."""
BULLET = "•"
"""Drawn after all other text of its page."""


class Piece(NamedTuple):
    """A text that stands on the pages."""

    text: str
    repeated: str = ""
    """The table's header, which stands again at the top of each page that the table reaches."""
    drawn: str = ""
    """Text of a chart above it, which is drawn after all other text of its page."""


def difference(pdf: bytes, view: EvidenceView) -> str | None:
    """Where the pages first say something else than the view; None if they say the same."""
    cover, *pages = (squeezed(text) for text in _pages(pdf))
    for index, page in enumerate(pages):
        margin = squeezed(f"{view.title}{view.document_id}{view.issued_day}{index + 2}/{len(pages) + 1}")
        if not page.endswith(margin):
            return f"page {index + 2} has another margin"
        pages[index] = page.removesuffix(margin)
    view = _spelled(view, known=frozenset(cover).union(*pages))
    if Counter(cover) != Counter(squeezed("".join(_cover(view)))):
        return "page 1 says something else"
    return _Walk(BREAK.join(pages)).difference(view)


def _pages(pdf: bytes) -> list[str]:
    with pdfium.PdfDocument(pdf) as document:
        return [page.get_textpage().get_text_range().replace(_HYPHEN, "-") for page in document]


def squeezed(text: str) -> str:
    """Without white space, bullets and invisible signs, in small letters: lines and capitals are the style's."""
    visible = (sign for sign in text if not sign.isspace() and sign != BULLET and category(sign) not in {"Cf", "Cc"})
    return "".join(visible).casefold()


def _spelled(view: EvidenceView, *, known: frozenset[str]) -> EvidenceView:
    """The view with signs that stand on no page as their code points: the fonts lacked them."""
    signs = set("".join(_strings(view.model_dump(mode="json"))))
    return spell_out(view, [ord(sign) for sign in signs if not (sign.isascii() or known.issuperset(squeezed(sign)))])


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for part in value.values() for text in _strings(part))
    elif isinstance(value, list):
        yield from (text for part in value for text in _strings(part))


class _Walk:
    """Goes through the text of the pages, piece by piece."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.drawn = ""
        """What charts still have to say on this page."""

    def difference(self, view: EvidenceView) -> str | None:
        for piece in _conclusion(view):
            if not self.take(piece):
                return self.missing(piece.text)
        if not self.take_contents(view):
            return self.missing(view.labels["contents"])
        for piece in (piece for section in view.sections for piece in _section(section)):
            if not self.take(piece):
                return self.missing(piece.text)
        self.pass_break("")
        left = self.text[self.place :]
        return f"the last page says more: {left[:80]}" if left else None

    def missing(self, text: str) -> str:
        return f"page {2 + self.text.count(BREAK, 0, self.place)} does not say: {text[:80]}"

    def take(self, piece: Piece) -> bool:
        """Pass the piece if it stands here; right-to-left signs may stand in another order."""
        wanted, repeated = squeezed(piece.text), squeezed(piece.repeated)
        found = []
        for _ in wanted:
            self.pass_break(repeated)
            found.append(self.text[self.place : self.place + 1])
            self.place += 1
        self.drawn += squeezed(piece.drawn)
        return _alike("".join(found), wanted)

    def pass_break(self, repeated: str) -> None:
        """At the end of a page come the texts of its charts, at the top of the next a header again."""
        end = self.place + len(self.drawn)
        if self.text[end : end + 1] in {BREAK, ""} and _alike(self.text[self.place : end], self.drawn):
            self.place, self.drawn = end, ""
        while self.text.startswith(BREAK, self.place):
            self.place += 1
            self.place += len(repeated) if self.text.startswith(repeated, self.place) else 0

    def take_contents(self, view: EvidenceView) -> bool:
        """The contents with the page of each section."""
        self.pass_break("")
        titles = [f"·{view.conclusion.title}", *(section.number + section.title for section in view.sections)]
        entries = r"\d+".join(re.escape(squeezed(title)) for title in titles)
        first, last = (re.escape(squeezed(view.labels[name])) for name in ("contents", "reference"))
        found = re.compile(rf"{first}{entries}\d+{last}").match(self.text, self.place)
        self.place = found.end() if found else self.place
        return found is not None


def _alike(found: str, wanted: str) -> bool:
    mixed = any(bidirectional(sign) in {"R", "AL"} for sign in wanted)
    return found == wanted or (mixed and Counter(found) == Counter(wanted))


def _cover(view: EvidenceView) -> Iterator[str]:
    cover = view.cover
    yield from (cover.kicker, cover.title, cover.subtitle, cover.verdict_label, cover.verdict)
    for name, value in cover.facts:
        yield name + _cell(value)
    yield from cover.notices
    yield from (view.document_id, view.title, view.issued_day)


def _cell(cell: Cell) -> str:
    return cell.text + (cell.ref or "")


def _conclusion(view: EvidenceView) -> Iterator[Piece]:
    page = view.conclusion
    yield from map(Piece, (page.title, page.question, page.verdict, page.answer, *page.columns))
    for line in page.lines:
        cells = (line.scope, _cell(line.gap), line.interval, line.interval_by_cues, line.threshold, line.verdict)
        yield from map(Piece, cells)
    yield from map(Piece, (*page.plain, *page.reasons))
    if page.chart:
        yield from _block(page.chart)
    yield from map(Piece, (page.meaning_title, *page.meaning, page.limits_title, *page.limits))


def _section(section: Section) -> Iterator[Piece]:
    yield Piece(section.number + section.title)
    for block in section.blocks:
        yield from _block(block)


def _block(block: Block) -> Iterator[Piece]:
    match block:
        case Paragraph(text=text, refs=refs):
            yield Piece("".join([text, *refs]))
        case Heading(text=text):
            yield Piece(text)
        case Bullets(items=items):
            yield from map(Piece, items)
        case Callout(title=title, text=text):
            yield from (Piece(title), Piece(text))
        case FactList(caption=caption, rows=rows):
            yield Piece(caption)
            yield from (Piece(name + _cell(value)) for name, value in rows)
        case Table():
            header = "".join(column.label for column in block.columns)
            yield from (Piece(block.caption), Piece(header))
            yield from (Piece(_cell(cell), repeated=header) for row in block.rows for cell in row.cells)
            yield Piece(block.note or "")
        case PromptText(title=title, pieces=pieces):
            yield from (Piece(title), Piece("".join(text for text, _ in pieces)))
        case Commands(title=title, lines=lines):
            yield from map(Piece, (title, *lines))
        case _:
            yield Piece(block.caption, drawn=_drawn(block))


def _drawn(chart: ForestChart | HeatMaps) -> str:
    """The text of a chart in the order of its drawing."""
    picture = ET.fromstring(chart_svg(chart))  # noqa: S314 - our own drawing
    return "".join("".join(text.itertext()) for text in picture.iter("{http://www.w3.org/2000/svg}text"))
