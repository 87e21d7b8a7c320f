"""One judged audit and its English report, made once: rendering takes seconds."""

import io

import pytest
from pypdf import PdfReader

from tests.workers.rendering.audits import make_evidence
from workers.rendering.blocks import EvidenceView
from workers.rendering.evidence import Evidence
from workers.rendering.report import Report, make_report
from workers.rendering.views import build_view


@pytest.fixture(scope="session")
def evidence() -> Evidence:
    return make_evidence(layers=12, heads=4)


@pytest.fixture(scope="session")
def view(evidence: Evidence) -> EvidenceView:
    return build_view(evidence)


@pytest.fixture(scope="session", params=["en", "zh-Hant"])
def report(request: pytest.FixtureRequest, evidence: Evidence) -> Report:
    return make_report(evidence, language=request.param)


@pytest.fixture(scope="session")
def reader(report: Report) -> PdfReader:
    return PdfReader(io.BytesIO(report.pdf))


@pytest.fixture(scope="session")
def words(reader: PdfReader) -> str:
    """The PDF's text without any white space: line breaks fall where they fall."""
    return "".join("".join(page.extract_text().split()) for page in reader.pages)
