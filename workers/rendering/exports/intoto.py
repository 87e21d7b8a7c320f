"""in-toto test result v0.1: what was tested is the model, file by file; the tests are the behavior's forms."""

from audit_service.domain.results import VerdictValue
from workers.rendering.evidence import Evidence
from workers.rendering.exports.facts import Json

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
_RESULTS = {VerdictValue.PASS: "PASSED", VerdictValue.FAIL: "FAILED"}
"""Everything else is a warning: a concern, and what could not be decided or measured."""


def statement(evidence: Evidence) -> Json:
    """https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md"""
    forms: dict[str, list[str]] = {"PASSED": [], "WARNED": [], "FAILED": []}
    for verdict in evidence.judgement.forms:
        forms[_result(verdict.value)].append(verdict.scope)
    return {
        "_type": STATEMENT,
        "subject": [
            {"name": name, "digest": {"sha256": sha256}} for name, sha256 in sorted(evidence.plan.model.files.items())
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "result": _result(evidence.judgement.verdict.value),
            "configuration": [
                {"name": "plan.json", "digest": {"sha256": evidence.plan.digest}},
                {"name": "pair_set.json", "digest": {"sha256": evidence.pair_set.digest}},
            ],
            "passedTests": forms["PASSED"],
            "warnedTests": forms["WARNED"],
            "failedTests": forms["FAILED"],
        },
    }


def _result(value: VerdictValue) -> str:
    return _RESULTS.get(value, "WARNED")
