"""Each export is accepted by the library of its format and says what the evidence says; a corrupted one is refused."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf.json_format import ParseDict, ParseError
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from pydantic import ValidationError
from rocrate.rocrate import ROCrate
from trestle.oscal import OSCAL_VERSION
from trestle.oscal.assessment_results import Model

from audit_service.domain.approvals import Acceptance, AcceptanceKind, Approval, Decision, Record
from audit_service.domain.manifest import digest
from audit_service.domain.results import VerdictValue
from tests.workers.rendering.audits import NOON, make_audit
from workers.rendering.bundle import contents
from workers.rendering.evidence import Evidence
from workers.rendering.exports import CRATE
from workers.rendering.exports.oscal import assessment_results

OSCAL, BOM, IN_TOTO = "oscal-assessment-results.json", "cyclonedx-ml-bom.json", "in-toto-test-result.json"


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    accepted = Acceptance(
        id="RA-1",
        kind=AcceptanceKind.RISK,
        scope="raw",
        reason="known and watched",
        person="user:head",
        role="Head of credit",
        at=NOON,
        expires=NOON + timedelta(days=90),
    )
    return make_audit(layers=2, heads=1).evidence.model_copy(update={"acceptances": (accepted,)})


@pytest.fixture(scope="module")
def files(evidence: Evidence) -> dict[str, bytes]:
    return contents(evidence, [], {})


def numbers(evidence: Evidence) -> Iterator[tuple[str, float]]:
    """Every measured number of a comparison, by its key."""
    for result in evidence.judgement.results:
        if ".race.black." in result.key and result.value is not None:
            yield result.key, result.value


class TestOscal:
    def test_trestle_reads_it(self, files: dict[str, bytes]) -> None:
        read = Model.model_validate_json(files[OSCAL]).assessment_results
        assert read.metadata.oscal_version.root.root == OSCAL_VERSION
        (result,) = read.results
        assert [observation.title for observation in result.observations] == [
            "race: black against white, form raw",
            "race: black against white, form chat",
        ]
        assert result.risks[0].deadline == NOON + timedelta(days=90)

    @pytest.mark.parametrize(
        ("decision", "status"),
        [
            (None, "deviation-requested"),
            (Decision.ACCEPTED, "deviation-approved"),
            (Decision.ACCEPTED_WITH_CONDITIONS, "deviation-approved"),
            (Decision.RETURNED, "open"),
            (Decision.REJECTED, "open"),
        ],
    )
    def test_a_risk_is_accepted_by_its_reviewer_alone(
        self, evidence: Evidence, decision: Decision | None, status: str
    ) -> None:
        risk = evidence.acceptances[0]
        trail = [
            Approval(
                at=NOON,
                person="user:second-line",
                role="Validator",
                record=Record.ACCEPTANCE,
                record_digest=digest(risk),
                decision=made,
            )
            for made in (Decision.SUBMITTED, decision)
            if made
        ]
        said = assessment_results(evidence.model_copy(update={"approvals": tuple(trail)}))
        (result,) = said["assessment-results"]["results"]
        assert [one["status"] for one in result["risks"]] == [status]

    def test_it_holds_every_number_of_a_comparison(self, files: dict[str, bytes], evidence: Evidence) -> None:
        (result,) = Model.model_validate_json(files[OSCAL]).assessment_results.results
        said = {
            (observation.title.rsplit(" ", 1)[1], prop.name): float(prop.value)
            for observation in result.observations
            for prop in observation.props
        }
        for key, value in numbers(evidence):
            form, _, _, name = key.split(".", 3)
            assert said[form, name] == value

    def test_only_a_pass_is_satisfied(self, files: dict[str, bytes]) -> None:
        (result,) = Model.model_validate_json(files[OSCAL]).assessment_results.results
        assert {finding.target.status.state.value for finding in result.findings} == {"not-satisfied"}

    @pytest.mark.parametrize("field", ["uuid", "metadata", "import-ap", "results"])
    def test_trestle_refuses_a_corrupted_one(self, files: dict[str, bytes], field: str) -> None:
        broken = json.loads(files[OSCAL])
        broken["assessment-results"][field] = "x"
        with pytest.raises(ValidationError):
            Model.model_validate(broken)


class TestCycloneDx:
    validator = JsonStrictValidator(SchemaVersion.V1_6)

    def test_the_strict_schema_accepts_it(self, files: dict[str, bytes]) -> None:
        assert self.validator.validate_str(files[BOM].decode()) is None

    def test_it_names_the_model_and_its_files_by_digest(self, files: dict[str, bytes], evidence: Evidence) -> None:
        bom = json.loads(files[BOM])
        assert bom["metadata"]["component"]["hashes"][0]["content"] == evidence.plan.model.digest
        hashes = {component["name"]: component["hashes"][0]["content"] for component in bom["components"]}
        assert evidence.plan.model.files.items() <= hashes.items()
        assert hashes[evidence.pair_set.name] == evidence.pair_set.digest

    def test_its_model_card_holds_every_number_of_a_comparison(
        self, files: dict[str, bytes], evidence: Evidence
    ) -> None:
        card = json.loads(files[BOM])["metadata"]["component"]["modelCard"]
        said = sorted(float(metric["value"]) for metric in card["quantitativeAnalysis"]["performanceMetrics"])
        assert said == sorted(value for _, value in numbers(evidence))

    @pytest.mark.parametrize("field", ["bomFormat", "components", "serialNumber", "version"])
    def test_the_schema_refuses_a_corrupted_one(self, files: dict[str, bytes], field: str) -> None:
        assert self.validator.validate_str(json.dumps(json.loads(files[BOM]) | {field: {"x": 1}})) is not None


class TestInToto:
    @staticmethod
    def parsed(content: dict[str, Any]) -> Statement:
        read = Statement.copy_from_pb(ParseDict(content, statement_pb2.Statement()))
        read.validate()
        ParseDict(content["predicate"], test_result_pb2.TestResult())
        return read

    def test_the_library_accepts_it(self, files: dict[str, bytes], evidence: Evidence) -> None:
        read = self.parsed(json.loads(files[IN_TOTO]))
        assert {one.name: one.digest["sha256"] for one in read.pb.subject} == evidence.plan.model.files

    def test_forms_stand_under_their_verdicts(self, files: dict[str, bytes], evidence: Evidence) -> None:
        predicate = json.loads(files[IN_TOTO])["predicate"]
        assert evidence.judgement.verdict.value is VerdictValue.FAIL
        assert (predicate["result"], predicate["failedTests"], predicate["warnedTests"]) == (
            "FAILED",
            ["raw"],
            ["chat"],
        )

    @pytest.mark.parametrize(
        "change", [{"_type": "x"}, {"subject": []}, {"subject": [{"name": "x"}]}, {"predicate": {"result": ["PASSED"]}}]
    )
    def test_the_library_refuses_a_corrupted_one(self, files: dict[str, bytes], change: dict[str, Any]) -> None:
        with pytest.raises((ValueError, ParseError)):
            self.parsed(json.loads(files[IN_TOTO]) | change)


class TestRoCrate:
    @staticmethod
    def unpacked(files: dict[str, bytes], folder: Path) -> Path:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder

    def test_the_library_reads_it_with_every_file(
        self, files: dict[str, bytes], evidence: Evidence, tmp_path: Path
    ) -> None:
        crate = ROCrate(self.unpacked(files, tmp_path))
        assert crate.root_dataset["identifier"] == evidence.document_id
        described = {entity.id: entity for entity in crate.data_entities}
        assert set(described) == set(files) - {CRATE}
        assert all(int(described[name]["contentSize"]) == len(files[name]) for name in described)

    @pytest.mark.parametrize("missing", [CRATE, "./"])
    def test_the_library_refuses_one_without_its_descriptor_or_root(
        self, files: dict[str, bytes], missing: str, tmp_path: Path
    ) -> None:
        crate = json.loads(files[CRATE])
        crate["@graph"] = [entity for entity in crate["@graph"] if entity["@id"] != missing]
        with pytest.raises((ValueError, KeyError)):
            ROCrate(self.unpacked(files | {CRATE: json.dumps(crate).encode()}, tmp_path))


def test_ids_and_dates_follow_from_the_evidence(evidence: Evidence, files: dict[str, bytes]) -> None:
    again = Evidence.model_validate_json(files["evidence.json"])
    assert contents(again, [], {}) == files
    other = evidence.model_copy(update={"cue_tokens": {}})
    assert json.loads(contents(other, [], {})[BOM])["serialNumber"] != json.loads(files[BOM])["serialNumber"]
