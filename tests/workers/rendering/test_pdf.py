"""The child process keeps its limits, and no text of a user gets out of its place."""

import base64
import io
import json
import os
from datetime import UTC, datetime
from typing import Any

import pytest
from pypdf import PdfReader

from audit_service.domain.auditfile import AuditFile
from tests.workers.rendering.audits import example, make_evidence
from workers.rendering.blocks import EvidenceView
from workers.rendering.html import render_html
from workers.rendering.pdf import Limits, MissingGlyphs, RenderFailed, render_pdf, run_child
from workers.rendering.reading import difference
from workers.rendering.report import Report
from workers.rendering.views import build_view


def order(html: str, **changes: Any) -> bytes:
    plain = {
        "html": f'<html lang="en"><title>t</title><body>{html}</body></html>',
        "attachment": base64.b64encode(b"{}").decode(),
        "issued": datetime(2026, 11, 21, tzinfo=UTC).isoformat(),
        "evidence_digest": "ab" * 32,
        "cpu_seconds": 20,
        "memory_bytes": 2 * 1024**3,
    }
    return json.dumps(plain | changes).encode()


def test_a_plain_page_becomes_a_pdf() -> None:
    assert run_child(order("<p>hello</p>"), seconds=60).startswith(b"%PDF-1.7")


def test_a_rendering_that_takes_too_much_processor_time_is_stopped() -> None:
    endless = "<div style='display:flex'>" * 60 + "<p>x</p>" * 20_000
    with pytest.raises(RenderFailed, match="processor time"):
        run_child(order(endless, cpu_seconds=2), seconds=120)


def test_a_rendering_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(RenderFailed, match="not finished after"):
        run_child(order("<p>x</p>"), seconds=0.05)


def test_a_rendering_that_takes_too_much_memory_is_stopped() -> None:
    with pytest.raises(RenderFailed, match="memory"):
        run_child(order("<p>x</p>" * 120_000, memory_bytes=420 * 1024**2), seconds=120)


@pytest.mark.parametrize(
    "said", ["memory: out of it\nException ignored in sys.unraisablehook\n", "Exception ignored in: x\nMemoryError\n"]
)
def test_complaints_around_the_end_of_memory_do_not_hide_the_reason(said: str) -> None:
    program = ["-c", f"import sys; sys.stderr.write({said!r}); sys.exit(1)"]
    with pytest.raises(RenderFailed, match="memory"):
        run_child(b"", seconds=60, program=program)


@pytest.mark.parametrize(
    "html",
    [
        "<img alt='x' src='file:///etc/hostname'>",
        "<img alt='x' src='http://127.0.0.1:9/x.png'>",
        "<img alt='x' src='fonts/../evidence.html'>",
        "<style>@import url(file:///etc/hostname);</style>",
        "<p style='background: url(file:///etc/hostname)'>x</p>",
        "<link rel=attachment href='file:///etc/hostname'>",
        "<img alt='x' src='data:image/svg+xml;base64,"
        + base64.b64encode(
            b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9" height="9">'
            b'<image width="9" height="9" xlink:href="file:///etc/hostname"/></svg>'
        ).decode()
        + "'>",
    ],
)
def test_a_file_or_address_outside_its_assets_ends_the_rendering(html: str) -> None:
    with pytest.raises(RenderFailed, match="outside its own assets"):
        run_child(order(html), seconds=60)


def test_signs_that_no_font_has_are_named() -> None:
    with pytest.raises(MissingGlyphs, match=r"U\+16F00"):
        run_child(order("<p>\U000e0101\U0001d7ff\U00016f00\U00010a60</p>"), seconds=60)


def test_the_child_sees_no_secret_of_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_DATABASE_URL", "postgresql://user:secret@host/db")
    seen = run_child(b"", seconds=30, program=("-c", "import os; print(dict(os.environ))")).decode()
    assert "PATH" in seen
    assert "AUDIT" not in seen
    assert os.environ["AUDIT_DATABASE_URL"] not in seen


HOSTILE = {
    "title": "<script>alert(1)</script><b>bold</b>",
    "owner": 'x"><img src=file:///etc/passwd>',
    "decision": "url(file:///etc/passwd) } body { display: none",
    "deployment_note": "{{ 7 * 7 }} {% raw %} $\\alpha$ %s %(x)s",
    "basis": "שלום עולם and \u202eright to left",
    "source": "Very" * 120,
    "cue": "<svg/onload=alert(2)>$x_1$" + "Long" * 30,
    "form": "raw</td></table>\U00016f00",
}


@pytest.fixture(scope="module")
def hostile_view() -> EvidenceView:
    """A document with a hostile text wherever a user may write; parts that print no such text are left out."""
    plain = example().model_dump(mode="json")
    behavior = plain["behavior"]
    attribute = behavior["attributes"][0]
    for name in ("title", "owner", "decision", "deployment_note"):
        behavior[name] = HOSTILE[name]
    behavior["risk"]["basis"], behavior["threshold"]["source"] = HOSTILE["basis"], HOSTILE["source"]
    attribute["groups"]["white"]["female"] = [HOSTILE["cue"]]
    behavior["forms"][0]["name"] = HOSTILE["form"]
    audit = AuditFile.model_validate_json(json.dumps(plain))
    view = build_view(make_evidence(audit=audit, layers=1, heads=1))
    own_words = {"method", "nist", "iso", "glossary", "annexes"}
    return view.model_copy(update={"sections": tuple(s for s in view.sections if s.id not in own_words)})


@pytest.fixture(scope="module")
def hostile(hostile_view: EvidenceView) -> Report:
    view, html = hostile_view, render_html(hostile_view)
    pdf = render_pdf(view, attachment=b"{}", html=html)
    return Report(view.document_id, view.language, html, json=b"", pdf=pdf, docx=b"")


@pytest.fixture(scope="module")
def hostile_words(hostile: Report) -> str:
    pages = PdfReader(io.BytesIO(hostile.pdf)).pages
    return "".join("".join(page.extract_text() for page in pages).split())


@pytest.mark.parametrize("name", [name for name, text in HOSTILE.items() if text.isascii()])
def test_a_hostile_text_stays_readable(hostile_words: str, name: str) -> None:
    assert "".join(HOSTILE[name].split()) in hostile_words


def test_a_sign_that_no_font_has_is_printed_as_its_code_point(hostile: Report, hostile_words: str) -> None:
    assert "raw</td></table>[U+16F00]" in hostile_words
    assert "\U00016f00" in hostile.html


def test_hostile_texts_do_no_harm(hostile: Report, hostile_words: str) -> None:
    """Nothing of them is markup, and the document goes on to its end."""
    assert not any(tag in hostile.html for tag in ("<script", "<svg", "<b>", "<img src=file"))
    assert "14Approvaltrail" in hostile_words
    assert "עולם" in hostile_words or "םלוע" in hostile_words


def test_limits_reach_the_child() -> None:
    view = build_view(make_evidence(layers=1, heads=1))
    with pytest.raises(RenderFailed):
        render_pdf(view, attachment=b"{}", limits=Limits(seconds=0.05))


def test_hostile_texts_can_be_read_back_sign_by_sign(hostile: Report, hostile_view: EvidenceView) -> None:
    assert difference(hostile.pdf, hostile_view) is None
    other = hostile_view.cover.model_copy(update={"verdict": "Pass"})
    assert difference(hostile.pdf, hostile_view.model_copy(update={"cover": other})) == "page 1 says something else"
