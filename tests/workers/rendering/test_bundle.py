"""The bundle is whole, the same for the same run, and any change to it is found and named."""

import io
import itertools
import json
import random
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pikepdf
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from audit_service.domain.approvals import Approval, Decision, Record
from audit_service.domain.chain import sealed as sealed_entry
from audit_service.domain.manifest import canonical_json
from audit_service.domain.results import VerdictValue
from audit_service.errors import InvalidInput
from tests.workers.rendering.audits import NOON, Audit, make_audit
from workers.commands.verify import verify as command
from workers.rendering.bundle import MANIFEST, contents, event_chain, make_bundle, manifest
from workers.rendering.container import pack
from workers.rendering.docx import render_docx
from workers.rendering.exports import CRATE
from workers.rendering.html import render_html
from workers.rendering.pdf import render_pdf
from workers.rendering.report import Report, make_report
from workers.rendering.seal import MARK, sealed, unsealed
from workers.rendering.verifying import verify
from workers.rendering.views import build_view

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def audit() -> Audit:
    made = make_audit(layers=2, heads=1)
    approval = Approval(
        at=NOON,
        person="Second Line",
        role="Validator",
        record=Record.PLAN,
        record_digest=made.evidence.plan.digest,
        decision=Decision.ACCEPTED,
    )
    return Audit(made.evidence.model_copy(update={"approvals": (approval,)}), made.cells)


@pytest.fixture(scope="module")
def small(audit: Audit) -> Report:
    return make_report(audit.evidence)


@pytest.fixture(scope="module")
def files(audit: Audit, small: Report) -> Files:
    whole = contents(audit.evidence, [small], audit.cells)
    return whole | {MANIFEST: manifest(whole, document_id=audit.evidence.document_id)}


def first_fault(data: bytes) -> str:
    """What the first check that does not hold says; empty if all hold."""
    return next((f"{check.what} {check.detail}" for check in verify(data) if not check.held), "")


def resigned(files: Files) -> bytes:
    """Packed with a manifest that was brought up to date, as a careful forger would."""
    document_id = json.loads(files[MANIFEST])["document_id"]
    return pack(files | {MANIFEST: manifest(files, document_id=document_id)})


def flipped(content: bytes, seed: int) -> bytes:
    place = random.Random(seed).randrange(len(content))  # noqa: S311
    return content[:place] + bytes([content[place] ^ 0x01]) + content[place + 1 :]


def test_an_untouched_bundle_and_report_hold(files: Files, small: Report) -> None:
    assert [check.what for check in verify(pack(files)) if not check.held] == []
    assert [check.what for check in verify(small.pdf) if not check.held] == []


def test_the_same_run_gives_the_same_bundle(audit: Audit, small: Report, files: Files) -> None:
    assert make_bundle(audit.evidence, [small], audit.cells) == pack(files)


IN_THE_CONTAINER, IN_A_REPORT, IN_CELLS = range(10), range(8), range(4)
"""Seeds of flipped bits."""


@pytest.mark.parametrize("seed", IN_THE_CONTAINER)
def test_a_flipped_bit_anywhere_in_the_container_is_found(files: Files, seed: int) -> None:
    assert first_fault(flipped(pack(files), seed))


EACH_FILE = (
    "report.en.pdf",
    "report.en.html",
    "report.en.json",
    "report.en.docx",
    "evidence.json",
    "plan.json",
    "pair_set.json",
    "results.json",
    "environment.json",
    "events.json",
    "approvals.json",
    "README.txt",
    "oscal-assessment-results.json",
    "cyclonedx-ml-bom.json",
    "in-toto-test-result.json",
    CRATE,
    MANIFEST,
)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", EACH_FILE)
def test_a_flipped_bit_in_a_file_is_found_and_the_file_named(files: Files, name: str, seed: int) -> None:
    fault = first_fault(pack(files | {name: flipped(files[name], seed)}))
    assert name in fault or "manifest" in fault.lower()


@pytest.mark.parametrize("seed", IN_CELLS)
def test_a_flipped_bit_in_the_cells_is_found_although_the_manifest_was_renewed(files: Files, seed: int) -> None:
    name = sorted(name for name in files if name.startswith("cells/"))[seed]
    assert name in first_fault(resigned(files | {name: flipped(files[name], seed)}))


def edited(files: Files, name: str, edit: Callable[[Any], None]) -> bytes:
    """The JSON file with an edit, in canonical form."""
    value = json.loads(files[name])
    edit(value)
    return canonical_json(value)


SAYING_THE_SAME = tuple(name for name in EACH_FILE if name not in {"report.en.pdf", MANIFEST})


@pytest.mark.parametrize("name", SAYING_THE_SAME)
def test_a_file_that_says_something_else_is_named_although_the_manifest_was_renewed(files: Files, name: str) -> None:
    content = files[name]
    other = content[:-9] + b" " + content[-9:]
    assert any(name in check.what for check in verify(resigned(files | {name: other})) if not check.held)


def no_review(approvals: Any) -> None:
    approvals.pop()


def returned(approvals: Any) -> None:
    approvals[0]["decision"] = "returned"


def another_reviewer(approvals: Any) -> None:
    approvals[0]["person"] = "Third Line"


def lost_event(events: Any) -> None:
    events.pop(1)


def another_actor(events: Any) -> None:
    events[0]["actor"] = "somebody else"


def higher_threshold(plan: Any) -> None:
    plan["behavior"]["threshold"]["gap_nats"] = 9.0


def fewer_pairs(pair_set: Any) -> None:
    pair_set["pairs"].pop()


def smaller_p(judgement: Any) -> None:
    next(row for row in judgement["results"] if row["p_value"] is not None)["p_value"] = 0.9


def another_device(environment: Any) -> None:
    environment[0]["device"] = "cuda"


FORGED = (
    ("approvals.json", no_review),
    ("approvals.json", returned),
    ("approvals.json", another_reviewer),
    ("events.json", lost_event),
    ("events.json", another_actor),
    ("plan.json", higher_threshold),
    ("pair_set.json", fewer_pairs),
    ("results.json", smaller_p),
    ("environment.json", another_device),
)


@pytest.mark.parametrize(("name", "edit"), FORGED, ids=lambda value: getattr(value, "__name__", value))
def test_a_forged_part_is_named_although_the_manifest_was_renewed(
    files: Files, name: str, edit: Callable[[Any], None]
) -> None:
    assert name in first_fault(resigned(files | {name: edited(files, name, edit)}))


def test_a_record_that_was_taken_out_everywhere_but_in_the_report_is_found(audit: Audit, small: Report) -> None:
    forged = audit.evidence.model_copy(update={"approvals": ()})
    faults = [check.what for check in verify(make_bundle(forged, [small], audit.cells)) if not check.held]
    assert "report.en.pdf: it carries the bundle's evidence" in faults


def resealed(pdf: bytes) -> bytes:
    """With the seal that the changed file would have had."""
    return sealed(re.sub(re.escape(MARK) + rb"[0-9a-f]{64}", MARK + b"0" * 64, pdf))


def test_a_page_that_was_rewritten_and_sealed_again_is_named(audit: Audit) -> None:
    view = build_view(audit.evidence)
    milder = view.cover.model_copy(update={"verdict": "Pass"})
    forged = view.model_copy(update={"cover": milder, "sections": ()})
    pdf = render_pdf(forged, attachment=canonical_json(audit.evidence))
    assert unsealed(pdf).holds
    assert "page 1 says something else" in first_fault(pdf)


def test_attached_evidence_that_was_rewritten_and_sealed_again_is_named(audit: Audit, small: Report) -> None:
    verdict = audit.evidence.judgement.verdict.model_copy(update={"value": VerdictValue.PASS})
    judgement = audit.evidence.judgement.model_copy(update={"verdict": verdict})
    forged, stream = audit.evidence.model_copy(update={"judgement": judgement}), io.BytesIO()
    with pikepdf.open(io.BytesIO(small.pdf)) as pdf:
        pdf.attachments["evidence.json"].get_file().obj.write(canonical_json(forged))
        pdf.save(stream, compress_streams=False)
    rewritten = resealed(stream.getvalue())
    assert unsealed(rewritten).holds
    assert "follow from the attached rows" in first_fault(rewritten)


def test_a_picture_in_a_docx_that_was_drawn_otherwise_is_named(files: Files) -> None:
    with zipfile.ZipFile(io.BytesIO(files["report.en.docx"])) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in parts if name.startswith("word/media/"))
    stream, picture = io.BytesIO(), Image.open(io.BytesIO(parts[name])).convert("RGBA")
    picture.putpixel((9, 9), (255, 0, 0, 255))
    picture.save(stream, format="PNG")
    forged = pack(parts | {name: stream.getvalue()}, compressed=True)
    faults = [check for check in verify(resigned(files | {"report.en.docx": forged})) if not check.held]
    assert [check.detail for check in faults if "pictures of report.en.docx" in check.what] == [name]


@pytest.mark.parametrize("change", [{"actor": "user:other"}, {"data": {"to": "failed"}}, {"previous": "0" * 64}])
def test_an_entry_of_the_log_that_has_not_the_printed_digest_is_named(audit: Audit, change: dict[str, Any]) -> None:
    event = audit.evidence.events[0]
    said = {"number": 7, "actor": event.actor, "at": event.at.isoformat(), "data": {"to": "queued"}}
    entry = sealed_entry(said, previous="a" * 64)
    held = event.model_copy(update={"entry": entry, "digest": entry["digest"]})
    forged = held.model_copy(update={"entry": entry | change})
    for one, wrong in ((held, False), (forged, True)):
        evidence = audit.evidence.model_copy(update={"events": (one, *audit.evidence.events[1:])})
        checks = verify(make_bundle(evidence, [], audit.cells))
        held_now = next(check.held for check in checks if check.what.startswith("Each entry of the log"))
        assert held_now is not wrong


def test_a_decision_on_something_else_is_named(audit: Audit, small: Report) -> None:
    (approval,) = audit.evidence.approvals
    other = approval.model_copy(update={"record_digest": "f" * 64})
    forged = audit.evidence.model_copy(update={"approvals": (other,)})
    assert "decision names a record of this run Second Line: plan ffffffff" in first_fault(
        make_bundle(forged, [], audit.cells)
    )


def better_gap(evidence: Any) -> None:
    row = next(row for row in evidence["judgement"]["results"] if row["key"].endswith(".gap_nats"))
    row["value"] = 0.01


def milder_verdict(evidence: Any) -> None:
    evidence["judgement"]["verdict"]["value"] = "pass"


def other_threshold(evidence: Any) -> None:
    evidence["plan"]["behavior"]["threshold"]["gap_nats"] = 9.0


def fewer_shards(evidence: Any) -> None:
    evidence["shards"].pop()


def other_event(evidence: Any) -> None:
    evidence["events"][0]["what"] = "plan frozen twice"


def other_pair(evidence: Any) -> None:
    evidence["pair_set"]["pairs"][0]["profile"] = "other"


@pytest.mark.parametrize(
    "edit",
    [better_gap, milder_verdict, other_threshold, fewer_shards, other_event, other_pair],
    ids=lambda e: e.__name__,
)
def test_evidence_that_was_rewritten_with_its_manifest_does_not_hold(files: Files, edit: Callable[[Any], None]) -> None:
    assert first_fault(resigned(files | {"evidence.json": edited(files, "evidence.json", edit)}))


def test_numbers_that_do_not_follow_from_the_cells_are_named(audit: Audit, small: Report) -> None:
    """Even when evidence, view and manifest are made anew from the forged result."""
    rows = list(audit.evidence.judgement.results)
    rows[3] = rows[3].model_copy(update={"value": 0.01})
    judgement = audit.evidence.judgement.model_copy(update={"results": tuple(rows)})
    forged = audit.evidence.model_copy(update={"judgement": judgement})
    view = build_view(forged)
    report = replace(small, json=canonical_json(view), html=render_html(view), docx=render_docx(view))
    assert rows[3].key in first_fault(make_bundle(forged, [report], audit.cells))


@pytest.mark.parametrize("name", ["report.en.pdf", "approvals.json", "events.json", MANIFEST])
def test_a_missing_file_is_named(files: Files, name: str) -> None:
    fault = first_fault(pack({key: content for key, content in files.items() if key != name}))
    assert name in fault


def test_a_file_too_many_is_named(files: Files) -> None:
    assert "note.txt" in first_fault(pack(files | {"note.txt": b"trust me"}))


def test_half_a_bundle_is_no_bundle(files: Files) -> None:
    whole = pack(files)
    assert "container" in first_fault(whole[: len(whole) // 2])


def test_an_event_cannot_be_taken_out_of_the_chain(audit: Audit) -> None:
    chain = event_chain(audit.evidence.events)
    assert all(later["previous"] == earlier["digest"] for earlier, later in itertools.pairwise(chain))
    assert event_chain(audit.evidence.events[1:])[-1]["digest"] != chain[-1]["digest"]


@pytest.mark.parametrize("seed", IN_A_REPORT)
def test_a_flipped_bit_anywhere_in_a_report_is_found(small: Report, seed: int) -> None:
    assert "seal" in first_fault(flipped(small.pdf, seed))


def test_bytes_behind_the_end_of_a_report_are_found(small: Report) -> None:
    assert "after its end" in first_fault(small.pdf + b"\n%more")


def test_a_report_is_sealed_once(small: Report) -> None:
    assert small.pdf.count(MARK) == 1
    assert sealed(small.pdf) == small.pdf
    assert unsealed(small.pdf).holds


def test_something_else_is_refused() -> None:
    with pytest.raises(InvalidInput, match="neither"):
        verify(b"hello")


def test_the_command_says_what_does_not_hold(files: Files, tmp_path: Any) -> None:
    app = typer.Typer()
    app.command()(command)
    path = tmp_path / "bundle.zip"
    path.write_bytes(pack(files | {"plan.json": b"{}"}))
    result = CliRunner().invoke(app, [str(path)])
    assert result.exit_code == 1
    assert "DOES NOT HOLD: plan.json" in result.output
