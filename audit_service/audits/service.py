"""Runs: starting them, and what a user may do to one."""

from audit_service import dispatch
from audit_service.audits import lifecycle, planning
from audit_service.audits.schemas import RunCreate
from audit_service.behaviors import service as behaviors
from audit_service.db import locks
from audit_service.db.base import Ensured
from audit_service.db.handles import ReadSession, WriteSession, whom
from audit_service.db.tables import PlanRow, RunRow
from audit_service.domain.lifecycle import EventKind, RunState
from audit_service.domain.results import Level
from audit_service.domain.sentences import english
from audit_service.errors import Conflict, NotFound
from audit_service.events import repository as events
from audit_service.registry import service as registry


def start(session: WriteSession, wanted: RunCreate, *, by: str) -> Ensured[RunRow]:
    """A new run of the plan, queued.

    Raises:
        Conflict: the plan breaks a rule without which its numbers mean nothing, or another one was run before it.
        ModelChanged: the model's files are no longer those that the plan names.
        BrokerDown: nothing can be queued; no run is made.
    """
    plan = planning.plan(session, wanted.plan_id)
    _refuse_broken(plan)
    _refuse_overtaken(session, plan)
    registry.check_files(registry.version(session, plan.model_version_id))
    run = RunRow(plan=plan, person_id=whom(session).person_id)
    session.add(run)
    session.flush()
    dispatch.enqueue(session, dispatch.Task.ADVANCE, run.id)
    queued = {"from": None, "to": RunState.QUEUED.value, "reason": None}
    events.append(session, run.id, EventKind.STATE, actor=by, data=queued)
    return Ensured(run, is_new=True)


def _refuse_broken(plan: PlanRow) -> None:
    if broken := [finding for finding in plan.protocol if finding.level is Level.ERROR]:
        raise Conflict(
            f"The plan breaks {len(broken)} rule{'s' if len(broken) > 1 else ''} of the protocol; no run is started.",
            remedy="Correct what is named and make another plan.",
            details=[f"{one.rule}: {english(one.sentence)} {english(one.remedy)}" for one in broken],
        )


def _refuse_overtaken(session: WriteSession, plan: PlanRow) -> None:
    behavior = behaviors.version(session, plan.behavior_version_id).behavior_id
    locks.hold(session, f"first run/{plan.content.model.digest}/{behavior}")
    if (first := planning.came_before(session, plan)) is not None:
        raise Conflict(
            f"The plan {first.id} over this model and behavior was run before this one, so results could be seen.",
            remedy="Make the plan again with the same terms: it is then marked exploratory, and can be run.",
        )


def run(session: ReadSession, run_id: str) -> RunRow:
    if (row := session.get(RunRow, run_id)) is None:
        raise NotFound(f"There is no run {run_id}.", remedy="List them with GET /v1/runs.")
    return row


def cancel(session: WriteSession, run_id: str, *, by: str) -> RunRow:
    """End the run; a shard that is being traced is dropped."""
    return lifecycle.move(session, run_id, RunState.CANCELLED, by=by)


def pause(session: WriteSession, run_id: str, *, by: str) -> RunRow:
    """Let no further shard be taken. What is traced is kept."""
    return lifecycle.move(session, run_id, RunState.PAUSED, by=by)


def resume(session: WriteSession, run_id: str, *, by: str) -> RunRow:
    """Queue a paused or failed run again; traced shards are not traced twice.

    Raises:
        BrokerDown: nothing can be queued; the run stays as it was.
    """
    resumed = lifecycle.move(session, run_id, RunState.QUEUED, by=by)
    dispatch.enqueue(session, dispatch.Task.ADVANCE, run_id)
    return resumed
