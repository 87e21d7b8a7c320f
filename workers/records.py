"""What the log, people and other runs put on record about a run, as its report tells it."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import select

from audit_service.db.handles import ReadSession
from audit_service.db.tables import (
    BehaviorVersionRow,
    EventRow,
    MitigationRow,
    ModelVersionRow,
    RunRow,
    ScheduleRow,
    VerdictRow,
)
from audit_service.deployments import service as deployments
from audit_service.domain.comparison import Comparison, Currency, Deployment, EarlierRun, Mitigation
from audit_service.domain.lifecycle import EventKind, RunState
from audit_service.events.repository import entry
from audit_service.mitigations import service as mitigating
from audit_service.revalidation import repository as revalidations
from audit_service.schedules.repository import schedules
from workers.cells import RunCells
from workers.drift import side_effects_of
from workers.rendering.evidence import EventRecord, document_id


def events(session: ReadSession, run_id: str) -> list[EventRecord]:
    """The run's moves up to its verdict: what comes after it is the making of reports, which no report can tell of."""
    query = select(EventRow).where(EventRow.run_id == run_id, EventRow.kind == EventKind.STATE).order_by(EventRow.seq)
    listed = [
        EventRecord(at=row.at, actor=row.actor, what=f"run {row.data['to']}", digest=row.digest, entry=dict(entry(row)))
        for row in session.scalars(query)
    ]
    return listed[: _judged(listed) + 1]


def judged_at(events: Sequence[EventRecord]) -> datetime:
    """The moment of the verdict: the document's date, so that rendering it again gives the same bytes."""
    return events[_judged(events)].at


def _judged(events: Sequence[EventRecord]) -> int:
    """Place of the last verdict."""
    return max(place for place, event in enumerate(events) if event.what == f"run {RunState.REPORTING}")


def comparison(session: ReadSession, run_id: str) -> Comparison | None:
    """With the accepted run that this one repeats; one that nobody stands for is not told."""
    repeated = revalidations.of_run(session, run_id)
    if repeated is None or repeated.drift is None:
        return None
    if not revalidations.is_accepted(session, repeated.earlier_run_id):
        return None
    return Comparison(earlier=_earlier(session, repeated.earlier_run), drift=repeated.drift)


def mitigations(session: ReadSession, run_id: str, cells: RunCells) -> Iterator[Mitigation]:
    """The measures that the run was repeated with, oldest first."""
    for row in session.scalars(mitigating.on_record(run_id).order_by(MitigationRow.id)):
        before, drift = row.revalidation.earlier_run, row.drift
        if drift is not None:
            yield Mitigation(
                title=row.title,
                description=row.description,
                fitted_on=row.fitted_on,
                person=row.recorded_by,
                at=row.created_at,
                before=_earlier(session, before),
                drift=drift,
                reference_changes=tuple(side_effects_of(session, before.id, cells)),
                side_effects=row.side_effects,
            )


def currency(session: ReadSession, run: RunRow) -> Currency:
    """When the audit is due again, where the model is in use, and whether a later audit took this one's place."""
    version = session.get_one(ModelVersionRow, run.plan.model_version_id)
    behavior = session.get_one(BehaviorVersionRow, run.plan.behavior_version_id)
    ended = judged_at(events(session, run.id))
    last = revalidations.accepted_last(session, model=version.name, behavior=behavior.name)
    later = _earlier(session, last) if last is not None and last.id != run.id else None
    superseded = later if later is not None and later.ended_at > ended else None
    since = superseded.ended_at if superseded else ended
    return Currency(
        due=_due_again(session, model_id=version.model_id, behavior_id=behavior.behavior_id, since=since),
        deployments=tuple(
            Deployment(
                place=row.place,
                version=row.version,
                digest=row.of.digest,
                since=row.since,
                person=row.recorded_by,
                at=row.created_at,
            )
            for row in session.scalars(deployments.in_use(version.model_id))
        ),
        superseded=superseded,
    )


def _due_again(session: ReadSession, *, model_id: str, behavior_id: str, since: datetime) -> datetime | None:
    """When a schedule first makes the audit of the behavior on the model due again.

    It does not move on with the clock: a report that outlives it says so.
    """
    query = schedules().where(ScheduleRow.model_id == model_id, ScheduleRow.behavior_id == behavior_id)
    rules = [(row.rule, max(since, row.created_at)) for row in session.scalars(query) if row.rule and not row.paused]
    first = (next(rule.times(start), None) for rule, start in rules)
    return min((time.due for time in first if time), default=None)


def _earlier(session: ReadSession, run: RunRow) -> EarlierRun:
    """Another run as this one's report names it, with its disparities."""
    verdict = session.scalars(select(VerdictRow).where(VerdictRow.run_id == run.id)).one()
    plan = run.plan.content
    gaps = {
        f"{form.name}.{attribute.name}.{group}.gap_nats"
        for form in plan.behavior.forms
        for attribute in plan.behavior.attributes
        for group in attribute.groups
    }
    return EarlierRun(
        run_id=run.id,
        document_id=document_id(plan_digest=plan.digest, run_id=run.id),
        plan_digest=plan.digest,
        pair_set_digest=plan.pair_set.digest,
        model=plan.model,
        ended_at=judged_at(events(session, run.id)),
        verdict=verdict.value,
        results=tuple(result for result in verdict.judgement.results if result.key in gaps),
    )
