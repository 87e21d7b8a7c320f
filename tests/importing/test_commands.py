from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit_service.auditfiles import read_audit, read_pairs
from audit_service.cli import app
from audit_service.client import Client
from audit_service.domain.pairreaders import PairFormat
from audit_service.domain.planning import compose
from audit_service.domain.protocol import lint
from audit_service.errors import Conflict
from tests.domain.test_planning import MODEL
from tests.importing.test_formats import WINOGENDER, crows


def call(*arguments: str) -> str:
    answer = CliRunner().invoke(app, ["import", *arguments], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_an_imported_file_and_its_audit_make_a_plan(tmp_path: Path) -> None:
    source, audit_file = tmp_path / "all_sentences.tsv", tmp_path / "audits" / "audit.yaml"
    source.write_text(WINOGENDER)
    said = call("winogender", str(source), "--audit", str(audit_file), "--suffix", "\nAnswer:")
    assert "2 pairs of 5 rows" in said
    assert "left out: 1 (neutral pronoun)" in said
    audit = read_audit(audit_file)
    pairs = read_pairs(audit_file, audit)
    plan = compose(MODEL, audit.behavior, pairs, tracing=audit.tracing, judging=audit.judging)
    assert plan.pair_set.digest == pairs.digest
    rules = {found.rule for found in lint(behavior=audit.behavior, tracing=audit.tracing, judging=audit.judging,
                                          pairs=pairs.pairs)}  # fmt: skip
    assert {"P009", "P011"} <= rules  # no placebo pairs, and a threshold to be filled in


def test_several_attributes_stand_in_one_audit(tmp_path: Path) -> None:
    source, audit_file = tmp_path / "crows.csv", tmp_path / "audit.yaml"
    source.write_text(
        crows(("Old men nap.", "Young men nap.", "stereo", "age"), ("A b.", "C b.", "stereo", "religion"))
    )
    call("crows-pairs", str(source), "--audit", str(audit_file), "--chat")
    behavior = read_audit(audit_file).behavior
    assert [attribute.name for attribute in behavior.attributes] == ["age", "religion"]
    assert [form.name for form in behavior.forms] == ["chat"]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    source = tmp_path / "all_sentences.tsv"
    source.write_text(WINOGENDER)
    call("winogender", str(source))
    with pytest.raises(Conflict, match=r"all_sentences\.pairs\.jsonl is there already"):
        call("winogender", str(source))


def test_the_service_keeps_the_provenance(tmp_path: Path, client: Client) -> None:
    source, target = tmp_path / "all_sentences.tsv", tmp_path / "pairs.jsonl"
    source.write_text(WINOGENDER)
    call("winogender", str(source), "--out", str(target))
    stored = client.upload_pairs(target.read_bytes(), name="winogender", file_format=PairFormat.JSONL)
    assert stored.provenance is not None
    assert (stored.provenance.file, stored.provenance.rows) == ("all_sentences.tsv", 5)
    assert stored.count == 2
