"""The door of the renderer: evidence in, four documents of one view out."""

import hashlib
from dataclasses import dataclass

from audit_service.domain.manifest import canonical_json
from audit_service.errors import InvalidInput
from workers.rendering.docx import render_docx
from workers.rendering.evidence import Evidence
from workers.rendering.html import render_html
from workers.rendering.keys import AnyKey
from workers.rendering.pdf import Limits, render_pdf
from workers.rendering.signing import sign
from workers.rendering.views import build_view


@dataclass(frozen=True, slots=True)
class Report:
    """One document in its four shapes."""

    document_id: str
    language: str
    html: str
    json: bytes
    """The view as canonical JSON."""
    pdf: bytes
    docx: bytes

    @property
    def pdf_digest(self) -> str:
        return hashlib.sha256(self.pdf).hexdigest()


def make_report(
    evidence: Evidence,
    *,
    language: str = "en",
    key: AnyKey | None = None,
    limits: Limits = Limits(),  # noqa: B008 - a frozen value
) -> Report:
    """The report of a run; the same evidence and language give the same bytes, signatures aside.

    With a key the evidence says so beforehand (``evidence.signing == key.described()``): the words stand in the
    document that is signed. Raises InvalidInput for an unknown language or if they differ, and RenderFailed when the
    PDF cannot be made within the limits.
    """
    if evidence.signing != (key.described() if key else None):
        raise InvalidInput("The evidence names another signature.", remedy="Set its signing to key.described().")
    view = build_view(evidence, language=language)
    html = render_html(view)
    pdf = render_pdf(view, attachment=canonical_json(evidence), limits=limits, html=html)
    pdf = sign(pdf, key) if key else pdf
    return Report(
        document_id=view.document_id,
        language=language,
        html=html,
        json=canonical_json(view),
        pdf=pdf,
        docx=render_docx(view),
    )
