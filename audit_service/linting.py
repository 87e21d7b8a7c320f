"""An audit file against the protocol, before anything is computed."""

from pathlib import Path
from typing import NamedTuple

from audit_service.auditfiles import read_audit, read_pairs, tokenizer_folder
from audit_service.domain.power import in_words
from audit_service.domain.protocol import Seen, lint
from audit_service.domain.results import Level, LintFinding, Sentence
from audit_service.registry.labels import check_labels
from audit_service.registry.spans import unequal_spans


class Linted(NamedTuple):
    """What the protocol says about an audit file."""

    findings: tuple[LintFinding, ...]
    power: tuple[Sentence, ...]
    """What the design can detect."""

    @property
    def is_broken(self) -> bool:
        """Whether no run would be started."""
        return any(finding.level is Level.ERROR for finding in self.findings)


def lint_file(file: Path) -> Linted:
    """Every rule that the file's audit does not keep, or that only the model could tell.

    The model's tokenizer is asked where it lies on this machine.

    Raises:
        InvalidInput: the file or its pairs cannot be used.
        InvalidBehavior: the tokenizer cannot express the labels, or they collide.
    """
    audit = read_audit(file)
    pairs = read_pairs(file, audit).pairs
    spans = None
    if (folder := tokenizer_folder(file, audit)) is not None:
        check_labels(folder, audit.behavior.labels)
        spans = len(unequal_spans(folder, pairs)) / len(pairs)
    findings = lint(
        behavior=audit.behavior,
        tracing=audit.tracing,
        judging=audit.judging,
        pairs=pairs,
        seen=Seen(unequal_spans=spans),
    )
    return Linted(findings, in_words(audit.behavior, audit.judging, pairs))
