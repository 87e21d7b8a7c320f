"""What the gate says: on a screen, as JSON, and as a JUnit file."""

from collections.abc import Iterator
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from pydantic import AwareDatetime

from audit_service.domain.gate import Check, GateOutcome
from audit_service.domain.manifest import Frozen
from audit_service.domain.results import Sentence, VerdictValue
from audit_service.domain.sentences import english
from audit_service.errors import AuditError

_SIGNS = {GateOutcome.PASS: "pass", GateOutcome.FAIL: "FAIL", GateOutcome.UNKNOWN: "cannot tell"}


class GateReport(Frozen):
    """The gate's answer and what it rests on."""

    outcome: GateOutcome
    model: str
    version: str
    model_digest: str
    behavior: str
    plan: str
    """SHA-256 of the plan."""
    run: str
    verdict: VerdictValue
    baseline_version: str | None
    """The version that it was compared with; none if only its own verdict was asked."""
    baseline_run: str | None
    checks: tuple[Check, ...]
    notes: tuple[Sentence, ...]
    """Besides the checks: whether the mechanism changed."""
    started_at: AwareDatetime
    ended_at: AwareDatetime

    def lines(self) -> Iterator[str]:
        """One screen."""
        compared = f", compared with {self.baseline_version}" if self.baseline_version else ""
        yield f"{_SIGNS[self.outcome].upper()}: {self.behavior} on {self.model} {self.version}{compared}"
        for check in self.checks:
            yield f"  {_SIGNS[check.outcome]:<11} {check.name}"
            yield from (f"              {english(reason)}" for reason in check.reasons)
        yield from (f"  note        {english(note)}" for note in self.notes)
        yield f"run {self.run}  plan {self.plan[:12]}  model {self.model_digest[:12]}"


def junit(report: GateReport) -> bytes:
    """The checks as test cases: a failed one is a failure, one that cannot be told an error."""
    seconds = (report.ended_at - report.started_at).total_seconds()
    suite = Element(
        "testsuite",
        {
            "name": f"{report.behavior} on {report.model} {report.version}",
            "tests": str(len(report.checks)),
            "failures": str(sum(check.outcome is GateOutcome.FAIL for check in report.checks)),
            "errors": str(sum(check.outcome is GateOutcome.UNKNOWN for check in report.checks)),
            "skipped": "0",
            "time": f"{seconds:.3f}",
            "timestamp": _stamp(report.started_at),
        },
    )
    properties = SubElement(suite, "properties")
    for name in ("run", "plan", "model_digest", "verdict", "baseline_version", "baseline_run"):
        if (value := getattr(report, name)) is not None:
            SubElement(properties, "property", {"name": name, "value": _plain(str(value))})
    for check in report.checks:
        _case(suite, check, behavior=report.behavior)
    SubElement(suite, "system-out").text = _plain("\n".join(report.lines()))
    return _document(suite)


def junit_of_error(error: AuditError, *, model: str, behavior: str) -> bytes:
    """An audit that could not be run, as one test case that is an error: a pipeline shows why it stopped."""
    counts = {"tests": "1", "failures": "0", "errors": "1", "skipped": "0", "time": "0"}
    suite = Element(
        "testsuite", {"name": _plain(f"{behavior} on {model}"), **counts, "timestamp": _stamp(datetime.now(UTC))}
    )
    case = SubElement(suite, "testcase", {"name": "audit", "classname": _plain(behavior), "time": "0"})
    said = {"type": error.urn(), "message": _plain(f"{error.title}. {error.message}")}
    SubElement(case, "error", said).text = _plain(str(error))
    return _document(suite)


def _document(suite: Element) -> bytes:
    totals = {name: suite.attrib[name] for name in ("tests", "failures", "errors", "time")}
    root = Element("testsuites", {"name": "audit-service gate", **totals})
    root.append(suite)
    indent(root)
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _case(suite: Element, check: Check, *, behavior: str) -> None:
    case = SubElement(suite, "testcase", {"name": _plain(check.name), "classname": _plain(behavior), "time": "0"})
    if check.outcome is GateOutcome.PASS:
        return
    kind = "failure" if check.outcome is GateOutcome.FAIL else "error"
    said = [english(reason) for reason in check.reasons]
    SubElement(case, kind, {"type": check.outcome.value, "message": _plain(said[0])}).text = _plain("\n".join(said))


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S")


def _plain(text: str) -> str:
    """Without the characters that XML has no place for."""
    return "".join(
        c for c in text if c in "\t\n" or (c >= "\x20" and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff")
    )
