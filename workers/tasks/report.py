"""Report a run: gather its evidence, render it, save the documents."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select

from audit_service.approvals import service as approvals
from audit_service.audits import lifecycle
from audit_service.db.handles import ReadSession
from audit_service.db.tables import (
    ModelVersionRow,
    ReportRow,
    RunRow,
    VerdictRow,
)
from audit_service.dispatch import Task
from audit_service.domain.lifecycle import EventKind, RunState
from audit_service.domain.manifest import digest
from audit_service.domain.pairs import PairSet
from audit_service.domain.plan import ModelIdentity
from audit_service.domain.trace import Measured
from audit_service.errors import InvalidModel, ModelChanged
from audit_service.events import repository as events
from audit_service.registry.inspection import verify_unchanged
from audit_service.reports.repository import add_bundle, bundles, reports
from audit_service.responses import service as responses
from audit_service.settings import get_settings
from workers import records
from workers.cells import RunCells, load
from workers.engine.loading import load_tokenizer
from workers.engine.tokens import encode_pair
from workers.rendering.bundle import make_bundle
from workers.rendering.evidence import Edition as Issued
from workers.rendering.evidence import Evidence, RunFacts, ShardRecord
from workers.rendering.keys import AnyKey, SigningKey, TokenKey
from workers.rendering.report import Report, make_report
from workers.runtime import Runtime, runtime
from workers.tasks.base import alone, task


@task(Task.REPORT, of_run=True)
def report(run_id: str) -> None:
    """Render the run's documents and pack its bundle."""
    issue(runtime().of(RunRow, run_id), run_id, signing_key())


def issue(worker: Runtime, run_id: str, key: AnyKey | None) -> None:
    """Make the run's next edition, unless it is there or somebody is at it.

    A completed run gets a new one only if something was put on record since the last.
    """
    with alone(worker, run_id) as session:
        if session is None or session.get_one(RunRow, run_id).state not in _REPORTED:
            return
        cells = load(session, run_id)
        evidence = gather(session, run_id, cells).model_copy(update={"signing": key.described() if key else None})
        without_editions = digest(evidence.model_copy(update={"editions": ()}))
        last = session.scalars(bundles(run_id).limit(1)).first()
        if last is not None and last.evidence_digest == without_editions:
            return
        made = [make_report(evidence, language=language, key=key) for language in get_settings().report_languages]
        packed = make_bundle(evidence, made, {stored.shard.key: stored.trace.payload for stored in cells.shards})
        _save(worker, Edition(run_id, evidence.edition, made, packed, without_editions))


class Edition(NamedTuple):
    """What is kept of one rendering."""

    run_id: str
    number: int
    reports: Sequence[Report]
    bundle: bytes
    evidence_digest: str
    """Of the evidence without its earlier editions."""


_REPORTED = frozenset({RunState.REPORTING, RunState.COMPLETED})


def signing_key() -> AnyKey | None:
    """The organisation's key, if the settings name one: on a token, or in a file."""
    settings = get_settings()
    secret = settings.signing_passphrase
    passphrase = secret.get_secret_value() if secret else None
    if settings.signing_pkcs11 is not None:
        token, label = settings.signing_token, settings.signing_label
        return TokenKey(settings.signing_pkcs11, token, label, passphrase, settings.timestamp_url)
    if settings.signing_pkcs12 is not None:
        return SigningKey.read(settings.signing_pkcs12, passphrase=passphrase, timestamp_url=settings.timestamp_url)
    return None


def gather(session: ReadSession, run_id: str, cells: RunCells) -> Evidence:
    """All that the report says, from the rows, checked against the stored bytes and the model's files."""
    run = session.get_one(RunRow, run_id)
    path = Path(session.get_one(ModelVersionRow, run.plan.model_version_id).path)
    verdict = session.scalars(select(VerdictRow).where(VerdictRow.run_id == run_id)).one()
    events = records.events(session, run_id)
    recorded = approvals.on_record(session, run)
    verified = _is_unchanged(cells.plan.model, path)
    return Evidence(
        run=RunFacts(
            id=run_id,
            requested_by=events[0].actor,
            planned_at=run.plan.created_at,
            started_at=run.started_at or run.created_at,
            ended_at=records.judged_at(events),
            service_version=version("audit-service"),
        ),
        plan=cells.plan,
        pair_set=cells.pair_set,
        judgement=verdict.judgement,
        power=run.plan.power,
        cue_tokens=cue_tokens(path, cells.pair_set) if verified else {},
        measured=tuple(_environments(cells)),
        shards=tuple(_records(cells)),
        model_verified=verified,
        events=tuple(events),
        approvals=tuple(approvals.decisions(recorded)),
        responses=tuple(row.response for row in session.scalars(responses.on_record(run_id))),
        acceptances=tuple(row.acceptance for row in recorded if row.acceptance),
        editions=tuple(_editions(session, run_id)),
        mitigations=tuple(records.mitigations(session, run_id, cells)),
        comparison=records.comparison(session, run_id),
        currency=records.currency(session, run),
    )


def cue_tokens(model: Path, pair_set: PairSet) -> dict[str, int]:
    """Cue → number of tokens of this model's tokenizer, as the cue stands in its prompt."""
    tokenizer = load_tokenizer(model)
    lengths: dict[str, int] = {}
    for pair in pair_set.pairs:
        if pair.reference_cue not in lengths or pair.comparison_cue not in lengths:
            encoded = encode_pair(tokenizer, pair)
            cues = [segment.name for segment in pair.segments if segment.is_cue]
            lengths[pair.reference_cue] = sum(len(encoded.clean.spans[name]) for name in cues)
            lengths[pair.comparison_cue] = sum(len(encoded.corrupt.spans[name]) for name in cues)
    return lengths


def _editions(session: ReadSession, run_id: str) -> list[Issued]:
    """What was issued before, oldest first."""
    issued: dict[int, list[ReportRow]] = {}
    for row in reversed(reports(session, run_id)):
        issued.setdefault(row.edition, []).append(row)
    return [
        Issued(
            number=number,
            issued_at=max(row.created_at for row in rows),
            digests={row.language: row.digest for row in sorted(rows, key=lambda row: row.language)},
        )
        for number, rows in issued.items()
    ]


def _is_unchanged(identity: ModelIdentity, path: Path) -> bool:
    try:
        verify_unchanged(identity, path)
    except (InvalidModel, ModelChanged):  # the report prints it, with what follows from it
        return False
    return True


def _environments(cells: RunCells) -> list[Measured]:
    """The different surroundings that shards were traced in; controls are told once for the whole run."""
    return list(dict.fromkeys(stored.measured.model_copy(update={"controls": ()}) for stored in cells.shards))


def _records(cells: RunCells) -> list[ShardRecord]:
    return [
        ShardRecord(
            key=stored.shard.key,
            kind=stored.shard.kind,
            form=stored.shard.form,
            direction=stored.shard.direction,
            pairs=len(stored.shard.pair_ids),
            digest=stored.digest,
            verified=stored.verified,
        )
        for stored in cells.shards
    ]


def _save(worker: Runtime, edition: Edition) -> None:
    """Keep reports and bundle together; the first edition completes the run."""
    run_id, number = edition.run_id, edition.number
    with worker.database.writing() as session:
        state = lifecycle.locked(session, run_id).state
        if state not in _REPORTED:
            return  # cancelled meanwhile
        session.add_all(_row(run_id, number, made) for made in edition.reports)
        add_bundle(session, run_id, edition.bundle, edition=number, evidence_digest=edition.evidence_digest)
        digests = {made.language: made.pdf_digest for made in edition.reports}
        issued = {"what": "issued", "edition": number, "digests": digests}
        events.append(session, run_id, EventKind.REPORT, actor=worker.name, data=issued)
        if state is RunState.REPORTING:
            lifecycle.move(session, run_id, RunState.COMPLETED, by=worker.name)


def _row(run_id: str, edition: int, made: Report) -> ReportRow:
    return ReportRow(
        run_id=run_id,
        language=made.language,
        edition=edition,
        pdf=made.pdf,
        view=made.json,
        html=made.html.encode(),
        docx=made.docx,
        digest=made.pdf_digest,
    )
