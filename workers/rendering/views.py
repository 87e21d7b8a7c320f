"""Makes the finished view of a document from its evidence."""

from audit_service.domain.manifest import digest
from workers.rendering import numbers
from workers.rendering.blocks import EvidenceView
from workers.rendering.catalogue import catalogue
from workers.rendering.context import Context
from workers.rendering.evidence import Evidence
from workers.rendering.sections import (
    annexes,
    appendix,
    approvals,
    assurance,
    crosswalk,
    disparity,
    findings,
    front,
    localisation,
    method,
    subject,
)

LABELS = ("contents", "page", "of", "confidential", "reference", "report", "statement", "copy")


def build_view(evidence: Evidence, *, language: str = "en") -> EvidenceView:
    """Everything that the document says, final: the same evidence and language give the same view.

    Raises InvalidInput for a language without a catalogue.
    """
    t = catalogue(language)
    context = Context.of(evidence, t)
    parts = (
        subject.scope(context),
        subject.model(context),
        subject.behavior(context),
        subject.criteria(context),
        subject.datasheet(context),
        method.method(context),
        disparity.disparity(context),
        localisation.localisation(context),
        assurance.robustness(context),
        findings.findings(context),
        assurance.limitations(context),
        crosswalk.nist_section(context),
        crosswalk.iso_section(context),
        approvals.approvals(context),
        appendix.reproduction(context),
    )
    cover, conclusion = front.cover(context), front.conclusion(context)
    # The register comes last: it lists what all the others printed.
    sections = (*parts, appendix.register(context), appendix.glossary(context), annexes.annexes(context))
    book = context.book
    return EvidenceView(
        language=language,
        title=t("document.title", behavior=evidence.plan.behavior.title),
        subject=t("cover.subtitle", model=evidence.plan.model.name, version=evidence.plan.model.version),
        document_id=evidence.document_id,
        issued=f"{evidence.issued_at:%Y-%m-%dT%H:%M:%SZ}",
        issued_day=numbers.day(evidence.issued_at),
        evidence_digest=digest(evidence),
        labels={name: t(f"label.{name}") for name in LABELS},
        cover=cover,
        conclusion=conclusion,
        sections=sections,
        printed={book.refs[key]: book.number(key) for key in book.printed},
    )
