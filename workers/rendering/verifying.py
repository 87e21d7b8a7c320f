"""Checks a bundle or a PDF by itself: no server, no network, no torch. Says what holds and what does not."""

import hashlib
import io
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pikepdf
from PIL import Image
from pydantic import ValidationError

from audit_service.domain.joint import joint_shards
from audit_service.domain.judgement import judge
from audit_service.domain.manifest import canonical_json
from audit_service.domain.plan import Shard
from audit_service.domain.results import Judgement, Result
from audit_service.domain.shards import shards
from audit_service.domain.tables import Tables
from audit_service.domain.trace import Trace
from audit_service.errors import InvalidInput
from workers.rendering.blocks import EvidenceView, ForestChart, HeatMaps
from workers.rendering.bundle import MANIFEST, manifest, parts
from workers.rendering.catalogue import LANGUAGES
from workers.rendering.charts import CHINESE, drawn_alike
from workers.rendering.container import pack
from workers.rendering.docx import render_docx
from workers.rendering.evidence import Evidence
from workers.rendering.exports import CRATE, described
from workers.rendering.html import render_html
from workers.rendering.reading import difference
from workers.rendering.seal import unsealed
from workers.rendering.signing import signatures
from workers.rendering.views import build_view

TOLERANCE = 1e-9
"""Relative: statistics computed again on another machine may differ in the last bits."""


UNREADABLE = (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, zlib.error)
"""What comes of a damaged zip: of its directory, of a member's compression or encryption, of an end too early."""


class Check(NamedTuple):
    """One thing that was looked at."""

    what: str
    held: bool
    detail: str = ""


Files = Mapping[str, bytes]


def verify(data: bytes) -> Iterator[Check]:
    """Every check of a bundle (zip) or a report (PDF), cheap ones first.

    Raises InvalidInput if the bytes are neither.
    """
    if data.startswith(b"PK"):
        return _bundle(data)
    if data.startswith(b"%PDF"):
        return _report(data)
    raise InvalidInput("This is neither a bundle nor a PDF.", remedy="Give the .zip or the .pdf of a run.")


def _bundle(data: bytes) -> Iterator[Check]:
    try:
        files = _unpack(data)
    except UNREADABLE as error:
        yield Check("The container can be read", held=False, detail=str(error))
        return
    yield _container(data, files)
    yield from _digests(files)
    evidence = _evidence(files)
    if evidence is None:
        yield Check("evidence.json can be read", held=False)
        return
    yield from _parts(files, evidence)
    yield from _views(files, evidence)
    yield from _cells(files, evidence)
    yield from (check for name, pdf in files.items() if name.endswith(".pdf") for check in _report(pdf, name, evidence))
    others = {name: content for name, content in files.items() if name not in {MANIFEST, CRATE}}
    yield from (_agrees(files, name, content) for name, content in described(evidence, others).items())


def _unpack(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        if len(set(names)) != len(names):
            raise ValueError("a name appears twice")
        return {name: archive.read(name) for name in names}


def _container(data: bytes, files: Files) -> Check:
    """Packing is deterministic, so the container's own bytes (headers, times, order, padding) are known."""
    packed = pack(files)
    first = next((i for i, (a, b) in enumerate(zip(data, packed, strict=False)) if a != b), min(len(data), len(packed)))
    same = packed == data
    return Check("The container holds its files and nothing else", same, "" if same else f"differs at byte {first}")


def _digests(files: Files) -> Iterator[Check]:
    """Each file against the manifest, and the manifest against its own form."""
    try:
        listed: dict[str, str] = json.loads(files[MANIFEST])["files"]
    except (KeyError, ValueError, TypeError):
        yield Check("The manifest can be read", held=False, detail=MANIFEST)
        return
    for name, expected in sorted(listed.items()):
        found = hashlib.sha256(files[name]).hexdigest() if name in files else "missing"
        yield Check(f"{name} is the file that the manifest names", found == expected, _differs(found, expected))
    surplus = sorted(set(files) - set(listed) - {MANIFEST})
    yield Check("Every file stands in the manifest", not surplus, ", ".join(surplus))


def _differs(found: str, expected: str) -> str:
    return "" if found == expected else f"SHA-256 {found[:16]}…, expected {str(expected)[:16]}…"


def _evidence(files: Files) -> Evidence | None:
    try:
        return Evidence.model_validate_json(files["evidence.json"])
    except (KeyError, ValidationError):
        return None


def _parts(files: Files, evidence: Evidence) -> Iterator[Check]:
    """Each part that stands twice says the same in both places, byte for byte."""
    expected = {**parts(evidence), MANIFEST: manifest(files, document_id=evidence.document_id)}
    for name, content in expected.items():
        yield _agrees(files, name, content)
    yield _identity(evidence)
    changed = [f"{event.at.isoformat()} {event.what}" for event in evidence.events if not event.holds]
    yield Check("Each entry of the log has the digest that the report prints", not changed, ", ".join(changed))
    unknown = [f"{a.person}: {a.record} {a.record_digest[:16]}…" for a in evidence.approvals if not evidence.names(a)]
    yield Check("Every decision names a record of this run", not unknown, ", ".join(unknown))


def _agrees(files: Files, name: str, content: bytes) -> Check:
    return Check(f"{name} agrees with the evidence", files.get(name) == content)


def _identity(evidence: Evidence, name: str = "evidence.json") -> Check:
    same = evidence.pair_set.digest == evidence.plan.pair_set.digest
    return Check(f"{name}: the prompt pairs are those of the plan", same)


def _views(files: Files, evidence: Evidence) -> Iterator[Check]:
    """Every printed number: the report is built again from the attached rows and compared as a whole."""
    for language in LANGUAGES:
        name = f"report.{language}"
        if not any(file.startswith(f"{name}.") for file in files):
            continue
        view = build_view(evidence, language=language)
        rendered = {"json": canonical_json(view), "html": render_html(view).encode()}
        for kind, again in rendered.items():
            what = f"Every number and sentence of {name}.{kind} follows from the attached rows"
            yield Check(what, again == files.get(f"{name}.{kind}"))
        yield from _docx(files, f"{name}.docx", view)


def _docx(files: Files, name: str, view: EvidenceView) -> Iterator[Check]:
    """Text and tables byte for byte, pictures point by point."""
    what = f"Every number and sentence of {name} follows from the attached rows"
    try:
        found, expected = (_unpack(content) for content in (files[name], render_docx(view)))
    except (KeyError, *UNREADABLE) as error:
        yield Check(what, held=False, detail=str(error))
        return
    texts, pictures = (
        [{key: part[key] for key in part if key.startswith(_PICTURES) is drawn} for part in (found, expected)]
        for drawn in (False, True)
    )
    yield Check(what, texts[0] == texts[1])
    charts = [view.conclusion.chart, *(block for section in view.sections for block in section.blocks)]
    yield _pictures(name, *pictures, alike=all(drawn_alike(c) for c in charts if isinstance(c, ForestChart | HeatMaps)))


_PICTURES = "word/media/"


def _pictures(name: str, found: Files, expected: Files, *, alike: bool) -> Check:
    what = f"The pictures of {name} are drawn from the attached rows"
    if not alike:
        return Check(what, held=True, detail=f"NOT compared, for {CHINESE} is not installed here; its digest holds")
    wrong = sorted({*found, *expected} - {key for key in found if _same_picture(found[key], expected.get(key, b""))})
    return Check(what, not wrong, ", ".join(wrong))


def _same_picture(one: bytes, other: bytes) -> bool:
    """The same points: how they are compressed is the machine's own."""
    try:
        points = [Image.open(io.BytesIO(content)).convert("RGBA") for content in (one, other)]
    except (OSError, SyntaxError, ValueError):  # what Pillow says of damaged pictures
        return False
    return points[0].size == points[1].size and points[0].tobytes() == points[1].tobytes()


def _cells(files: Files, evidence: Evidence) -> Iterator[Check]:
    """Cells against the digests in the evidence, and the statistics computed again from them."""
    traces = {}
    for shard in evidence.shards:
        name = f"cells/{shard.key}.safetensors"
        payload = files.get(name, b"")
        traces[shard.key] = Trace(payload)
        held = traces[shard.key].digest == shard.digest
        yield Check(f"{name} has the digest that the report prints", held)
    intact = all(traces[shard.key].digest == shard.digest for shard in evidence.shards)
    planned = _planned(evidence, traces if intact else {})
    complete = {shard.key for shard in planned} == set(traces)
    yield Check("The shards are those of the plan", complete)
    if intact and complete:
        yield _statistics(evidence, _tables(evidence, planned, traces))


def _planned(evidence: Evidence, traces: Mapping[str, Trace]) -> tuple[Shard, ...]:
    """The shards of the plan: the first stage, and where its traces are all there the second, which follows from it."""
    first = shards(evidence.plan, evidence.pair_set)
    if not all(shard.key in traces for shard in first):
        return first
    return (*first, *joint_shards(evidence.plan, _tables(evidence, first, traces).effects))


def _statistics(evidence: Evidence, cells: Tables) -> Check:
    what = "The statistics follow from the cells"
    again = judge(evidence.plan, cells.decisions, cells.effects, evidence.judgement.controls, joint=cells.joint)
    wrong = _first_difference(evidence.judgement, again)
    return Check(what, wrong is None, wrong or "")


def open_bundle(data: bytes) -> tuple[Evidence, Files]:
    """A bundle's evidence and files.

    Raises InvalidInput if it is none, or its evidence cannot be read.
    """
    try:
        files = _unpack(data)
    except UNREADABLE as error:
        raise InvalidInput(f"This is no bundle: {error}.", remedy="Give the .zip of a run.") from error
    evidence = _evidence(files)
    if evidence is None:
        raise InvalidInput("The bundle's evidence cannot be read.", remedy="Run `audit-service verify` on it.")
    return evidence, files


def cells_of(evidence: Evidence, files: Files) -> Tables:
    """The cells of a bundle, in the plan's order.

    Raises InvalidInput if a shard is missing or not the one that the evidence names.
    """
    traces = {shard.key: Trace(files.get(f"cells/{shard.key}.safetensors", b"")) for shard in evidence.shards}
    if wrong := [shard.key for shard in evidence.shards if traces[shard.key].digest != shard.digest]:
        raise InvalidInput("Cells of the bundle do not hold.", remedy="Verify the bundle.", details=wrong)
    return _tables(evidence, _planned(evidence, traces), traces)


def _tables(evidence: Evidence, planned: Sequence[Shard], traces: Mapping[str, Trace]) -> Tables:
    return Tables.of(evidence.plan, evidence.pair_set, [(shard, traces[shard.key]) for shard in planned])


def _first_difference(printed: Judgement, again: Judgement) -> str | None:
    """The first result that differs by more than the tolerance, or another part of the judgement."""
    if [r.key for r in printed.results] != [r.key for r in again.results]:
        return "the list of results"
    for one, other in zip(printed.results, again.results, strict=True):
        if not _same(one, other):
            return one.key
    if (printed.verdict.value, [v.value for v in printed.forms]) != (
        again.verdict.value,
        [v.value for v in again.forms],
    ):
        return "the verdict"
    ids = [[s.id for s in judgement.statements] for judgement in (printed, again)]
    return None if ids[0] == ids[1] else "the statements"


def _same(one: Result, other: Result) -> bool:
    numbers: tuple[Callable[[Result], float | None], ...] = (
        lambda r: r.value,
        lambda r: r.low,
        lambda r: r.high,
        lambda r: r.p_value,
    )
    close = all(_close(number(one), number(other)) for number in numbers)
    words = (one.outcome, one.unit, one.n, one.method) == (other.outcome, other.unit, other.n, other.method)
    return close and words


def _close(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def attached_evidence(pdf: bytes) -> Evidence:
    """The evidence that a report carries."""
    with pikepdf.open(io.BytesIO(pdf)) as opened:
        return Evidence.model_validate_json(opened.attachments["evidence.json"].get_file().read_bytes())


def _report(data: bytes, name: str = "The PDF", evidence: Evidence | None = None) -> Iterator[Check]:
    """A report by itself: its seal, and the evidence that it carries."""
    found = unsealed(data)
    yield Check(f"{name}: its bytes agree with its seal", found.holds, found.detail)
    if not found.holds:
        return  # damaged pages are not worth reading
    try:
        carried = attached_evidence(data)
        with pikepdf.open(io.BytesIO(data)) as pdf:
            attached = pdf.attachments["evidence.json"].get_file().read_bytes()
            language = str(pdf.Root.Lang)
    except (pikepdf.PdfError, KeyError, ValidationError, RuntimeError) as error:
        yield Check(f"{name}: the attached evidence can be read", held=False, detail=str(error).splitlines()[0])
        return
    yield Check(f"{name}: the attached evidence is in canonical form", canonical_json(carried) == attached)
    yield from _signatures(data, carried, name)
    yield _identity(carried, name)
    yield _printed(data, carried, language, name)
    if evidence is not None:
        yield Check(f"{name}: it carries the bundle's evidence", carried == evidence)


def _signatures(data: bytes, evidence: Evidence, name: str) -> Iterator[Check]:
    """The signature that the document says it carries, and any other."""
    found = signatures(data) if evidence.signing or b"/ByteRange" in data else []
    for one in found:
        yield Check(f"{name}: the signature of {one.name} fits the file", one.intact, f"certificate {one.certificate}")
    if evidence.signing:
        named = any(one.certificate == evidence.signing.certificate for one in found)
        yield Check(f"{name}: it carries the signature that it names", named, evidence.signing.name)


def _printed(data: bytes, evidence: Evidence, language: str, name: str) -> Check:
    """The pages, sign by sign, against the view that the attached evidence gives."""
    view = build_view(evidence, language=language)
    wrong = difference(data, view)
    what = f"{name}: its {len(view.printed)} printed numbers and every sentence follow from the attached rows"
    return Check(what, wrong is None, wrong or "")
