"""CycloneDX 1.6 ML-BOM: the audited model by digest, its pair set, and a model card with the measured disparities."""

from audit_service.domain.results import Result
from audit_service.domain.sentences import english
from workers.rendering.catalogue import catalogue
from workers.rendering.evidence import Evidence
from workers.rendering.exports.facts import Disparity, Ids, Json, clean, disparities
from workers.rendering.sections.assurance import LIMITATIONS

MODEL, PAIRS = "model", "pair-set"


def ml_bom(evidence: Evidence) -> Json:
    """https://cyclonedx.org/docs/1.6/json/"""
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{Ids(evidence)('bom')}",
        "version": evidence.edition,
        "metadata": {
            "timestamp": evidence.issued_at.isoformat(),
            "tools": {"components": _tools(evidence)},
            "component": _model(evidence),
        },
        "components": [*_files(evidence), _pair_set(evidence)],
        "dependencies": [{"ref": MODEL, "dependsOn": [PAIRS]}, {"ref": PAIRS}],
    }


def _tools(evidence: Evidence) -> list[Json]:
    versions = {("audit-service", evidence.run.service_version)}
    for measured in evidence.measured:
        versions |= {("torch", measured.torch), ("transformers", measured.transformers)}
    return [{"type": "application", "name": name, "version": version} for name, version in sorted(versions)]


def _model(evidence: Evidence) -> Json:
    model = evidence.plan.model
    return {
        "type": "machine-learning-model",
        "bom-ref": MODEL,
        "name": clean(model.name),
        "version": clean(model.version),
        "hashes": [_sha256(model.digest)],
        "modelCard": {
            "bom-ref": "model-card",
            "modelParameters": {
                "task": "text-generation",
                "architectureFamily": "transformer",
                "modelArchitecture": clean(model.architecture),
                "datasets": [{"ref": PAIRS}],
                "inputs": [{"format": "text"}],
                "outputs": [{"format": "text"}],
            },
            "quantitativeAnalysis": {
                "performanceMetrics": [_metric(result, one) for one in disparities(evidence) for result in one.results]
            },
            "considerations": _considerations(evidence),
        },
        "properties": [
            {"name": "audit:plan", "value": evidence.plan.digest},
            {"name": "audit:run", "value": evidence.run.id},
            {"name": "audit:dtype", "value": model.dtype},
            {"name": "audit:parameters", "value": str(model.parameters)},
            {"name": "audit:verdict", "value": str(evidence.judgement.verdict.value)},
        ],
    }


def _metric(result: Result, one: Disparity) -> Json:
    metric: Json = {
        "type": result.key.removeprefix(f"{one.key}."),
        "value": repr(result.value),
        "slice": clean(f"{one.attribute}: {one.group} against {one.reference}; form {one.form}; {result.unit}"),
    }
    if result.low is None or result.high is None:
        return metric
    return metric | {"confidenceInterval": {"lowerBound": repr(result.low), "upperBound": repr(result.high)}}


def _considerations(evidence: Evidence) -> Json:
    behavior, t = evidence.plan.behavior, catalogue("en")
    harms = clean(" ".join(english(reason) for reason in evidence.judgement.verdict.reasons))
    groups = [(a.name, group) for a in behavior.attributes for group in sorted(set(a.groups) - {a.reference})]
    return {
        "useCases": [clean(behavior.decision)],
        "technicalLimitations": [clean(t(f"limitation.{name}")) for name in LIMITATIONS],
        "fairnessAssessments": [
            {"groupAtRisk": clean(f"{name}: {group}"), "harms": harms, "mitigationStrategy": _mitigation(evidence)}
            for name, group in groups
        ],
    }


def _mitigation(evidence: Evidence) -> str:
    return clean("; ".join(mitigation.title for mitigation in evidence.mitigations))


def _files(evidence: Evidence) -> list[Json]:
    return [
        {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": [_sha256(sha256)]}
        for name, sha256 in sorted(evidence.plan.model.files.items())
    ]


def _pair_set(evidence: Evidence) -> Json:
    pairs = evidence.pair_set
    return {
        "type": "data",
        "bom-ref": PAIRS,
        "name": clean(pairs.name),
        "hashes": [_sha256(pairs.digest)],
        "data": [{"type": "dataset", "name": clean(pairs.name), "description": f"{len(pairs.pairs)} prompt pairs"}],
    }


def _sha256(value: str) -> Json:
    return {"alg": "SHA-256", "content": value}
