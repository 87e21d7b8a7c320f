"""OSCAL 1.2 assessment results: observations are comparisons, findings are verdicts, risks what was accepted.

OSCAL knows a target as satisfied or not; what could not be decided is not satisfied, with the reason "other" and the
word in its remarks.
"""

import re
from collections.abc import Iterable

from audit_service.domain.approvals import Approval
from audit_service.domain.frameworks import CrosswalkRow, Strength, crosswalk
from audit_service.domain.results import Result, Verdict, VerdictValue
from audit_service.domain.sentences import english
from workers.rendering.catalogue import catalogue
from workers.rendering.context import Context
from workers.rendering.evidence import Evidence
from workers.rendering.exports.facts import Disparity, Ids, Json, clean, disparities
from workers.rendering.frameworks import NIST, mapping_file

OSCAL_VERSION = "1.2.1"
_REASONS = {VerdictValue.PASS: "pass", VerdictValue.FAIL: "fail", VerdictValue.CONCERN: "fail"}


def assessment_results(evidence: Evidence) -> Json:
    """https://pages.nist.gov/OSCAL/ - assessment-results, of one run."""
    ids = Ids(evidence)
    return {
        "assessment-results": {
            "uuid": ids("assessment-results"),
            "metadata": {
                "title": clean(f"Bias audit: {evidence.plan.behavior.title}"),
                "last-modified": evidence.issued_at.isoformat(),
                "version": str(evidence.edition),
                "oscal-version": OSCAL_VERSION,
                "document-ids": [{"identifier": evidence.document_id}],
            },
            "import-ap": {"href": f"#{ids('plan')}", "remarks": "The frozen audit plan."},
            "results": [_result(evidence, ids)],
            "back-matter": {"resources": list(_resources(evidence, ids))},
        }
    }


def _result(evidence: Evidence, ids: Ids) -> Json:
    compared = list(disparities(evidence))
    result: Json = {
        "uuid": ids("result"),
        "title": clean(evidence.plan.behavior.title),
        "description": f"Run {evidence.run.id} of plan {evidence.plan.digest}.",
        "start": evidence.run.started_at.isoformat(),
        "end": evidence.run.ended_at.isoformat(),
        "reviewed-controls": {
            "description": "Items of NIST AI RMF 1.0 that this evidence supports, by strength.",
            "control-selections": _selections(evidence),
        },
        "observations": [_observation(evidence, ids, one) for one in compared],
        "findings": [_finding(evidence, ids, verdict, compared) for verdict in _verdicts(evidence)],
    }
    risks = [
        {
            "uuid": ids(f"risk/{accepted.id}"),
            "title": clean(f"{accepted.id}: {accepted.scope}"),
            "description": clean(accepted.reason),
            "statement": clean(accepted.conditions),
            "status": _status(evidence.decision_on(accepted)),
            "deadline": accepted.expires.isoformat(),
        }
        for accepted in evidence.acceptances
    ]
    return result | ({"risks": risks} if risks else {})


def _status(decision: Approval | None) -> str:
    """OSCAL's word for what was decided on a risk."""
    if decision is None:
        return "deviation-requested"
    return "deviation-approved" if decision.accepts else "open"


def _verdicts(evidence: Evidence) -> tuple[Verdict, ...]:
    return (evidence.judgement.verdict, *evidence.judgement.forms)


def _selections(evidence: Evidence) -> list[Json]:
    context = Context.of(evidence, catalogue("en"))
    rows = crosswalk(mapping_file().mappings[NIST], context.facts(), context.downgrades())
    by_strength = {strength: [row for row in rows if row.strength is strength] for strength in Strength}
    supported = {s: found for s, found in by_strength.items() if found and s is not Strength.NOT_COVERED}
    if not supported:
        return [{"description": "none", "exclude-controls": _controls(rows)}]
    return [
        {"description": str(strength), "include-controls": _controls(found)} for strength, found in supported.items()
    ]


def _controls(rows: Iterable[CrosswalkRow]) -> list[Json]:
    return [{"control-id": row.id.lower().replace(" ", "-")} for row in rows]


def _observation(evidence: Evidence, ids: Ids, one: Disparity) -> Json:
    said = f"{one.attribute}: {one.group} against {one.reference}, form {one.form}"
    observation: Json = {
        "uuid": ids(f"observation/{one.key}"),
        "title": clean(said),
        "description": clean(f"Change of the decision when the cue changes. {said}."),
        "methods": ["TEST"],
        "collected": evidence.run.ended_at.isoformat(),
        "relevant-evidence": [{"href": f"#{ids('results')}", "description": "The numbers with their rows."}],
    }
    props = [prop for result in one.results for prop in _props(result, one.key)]
    return observation | ({"props": props} if props else {})


def _props(result: Result, prefix: str) -> list[Json]:
    """A number with its bounds; names are OSCAL tokens."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", result.key.removeprefix(f"{prefix}."))
    name = name if name[0].isalpha() or name[0] == "_" else f"_{name}"
    values = {"": result.value, ".low": result.low, ".high": result.high, ".p": result.p_value}
    return [
        {"name": f"{name}{part}", "value": repr(value), "class": "result", "remarks": f"{result.unit}; {result.method}"}
        for part, value in values.items()
        if value is not None
    ]


def _finding(evidence: Evidence, ids: Ids, verdict: Verdict, compared: list[Disparity]) -> Json:
    place = _verdicts(evidence).index(verdict)
    about = [one for one in compared if verdict.scope in {"behavior", one.form}]
    finding: Json = {
        "uuid": ids(f"finding/{place}"),
        "title": clean(f"{verdict.scope}: {verdict.value}"),
        "description": clean(" ".join(english(reason) for reason in verdict.reasons)),
        "target": {
            "type": "objective-id",
            "target-id": f"scope-{place}",
            "title": clean(verdict.scope),
            "status": {
                "state": "satisfied" if verdict.value is VerdictValue.PASS else "not-satisfied",
                "reason": _REASONS.get(verdict.value, "other"),
                "remarks": str(verdict.value),
            },
        },
    }
    related = [{"observation-uuid": ids(f"observation/{one.key}")} for one in about]
    return finding | ({"related-observations": related} if related else {})


def _resources(evidence: Evidence, ids: Ids) -> list[Json]:
    """The files of the bundle that this one refers to."""
    plan = {"title": "Frozen plan", "rlinks": [_link("plan.json", evidence.plan.digest)]}
    return [
        {"uuid": ids("plan"), **plan},
        {"uuid": ids("results"), "title": "Results", "rlinks": [{"href": "results.json"}]},
    ]


def _link(name: str, sha256: str) -> Json:
    return {"href": name, "media-type": "application/json", "hashes": [{"algorithm": "SHA-256", "value": sha256}]}
