"""The door of the renderer: evidence in, three documents of one view out."""

import hashlib
from dataclasses import dataclass

from audit_service.domain.manifest import canonical_json
from workers.rendering.evidence import Evidence
from workers.rendering.html import render_html
from workers.rendering.pdf import Limits, render_pdf
from workers.rendering.views import build_view


@dataclass(frozen=True, slots=True)
class Report:
    """One document in its three shapes."""

    document_id: str
    language: str
    html: str
    json: bytes
    """The view as canonical JSON."""
    pdf: bytes

    @property
    def pdf_digest(self) -> str:
        return hashlib.sha256(self.pdf).hexdigest()


def make_report(evidence: Evidence, *, language: str = "en", limits: Limits = Limits()) -> Report:  # noqa: B008
    """The report of a run; the same evidence and language give the same bytes.

    Raises InvalidInput for an unknown language and RenderFailed when the PDF cannot be made within the limits.
    """
    view = build_view(evidence, language=language)
    html = render_html(view)
    pdf = render_pdf(view, attachment=canonical_json(evidence), limits=limits, html=html)
    return Report(document_id=view.document_id, language=language, html=html, json=canonical_json(view), pdf=pdf)
