"""What is told when a run ends."""

from typing import Any

from sqlalchemy import select

from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.tables import ModelVersionRow, RevalidationRow, RunRow, VerdictRow
from audit_service.domain.lifecycle import RunState
from audit_service.domain.notifications import Topic
from audit_service.domain.sentences import english
from audit_service.notifications import service
from audit_service.revalidation import repository as revalidations

_TOPICS = {
    (RunState.COMPLETED, False): Topic.RUN_COMPLETED,
    (RunState.COMPLETED, True): Topic.REVALIDATION_COMPLETED,
    (RunState.FAILED, False): Topic.RUN_FAILED,
    (RunState.FAILED, True): Topic.REVALIDATION_FAILED,
}
"""(state, whether it repeats an earlier run). Nothing is told of a run that somebody cancelled."""


def run_ended(session: WriteSession, run: RunRow) -> None:
    """Tell that the run is completed or has failed; other states are not told."""
    repeated = revalidations.of_run(session, run.id)
    topic = _TOPICS.get((run.state, repeated is not None))
    if topic is None:
        return
    plan = run.plan.content
    what = "Revalidation" if repeated is not None else "Audit"
    subject = f"{what} {run.state}: {plan.behavior.name} on {plan.model.name} {plan.model.version}"
    data = _run(session, run) | (_change(session, repeated) if repeated is not None else {})
    service.publish(session, topic, subject=subject, data=data)


def _run(session: ReadSession, run: RunRow) -> dict[str, Any]:
    verdict = session.scalars(select(VerdictRow).where(VerdictRow.run_id == run.id)).one_or_none()
    plan = run.plan.content
    return {
        "run": run.id,
        "state": run.state.value,
        "reason": run.reason,
        "model": plan.model.name,
        "version": plan.model.version,
        "behavior": plan.behavior.name,
        "plan_digest": run.plan.digest,
        "verdict": None if verdict is None else verdict.value.value,
        "verdict_digest": None if verdict is None else verdict.digest,
    }


def _change(session: ReadSession, repeated: RevalidationRow) -> dict[str, Any]:
    earlier = session.get_one(RunRow, repeated.earlier_run_id)
    before = session.get_one(ModelVersionRow, earlier.plan.model_version_id)
    drift = repeated.drift
    return {
        "earlier_run": earlier.id,
        "earlier_version": before.version,
        "output": None if drift is None else drift.output.value,
        "mechanism": None if drift is None else drift.mechanism.value,
        "changes": None if drift is None else [english(sentence) for sentence in drift.statements],
    }
