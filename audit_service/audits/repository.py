"""Queries on plans, runs and their progress."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, func, select

from audit_service.audits.schemas import Progress
from audit_service.db.handles import ReadSession
from audit_service.db.queries import narrowed
from audit_service.db.tables import BehaviorVersionRow, CalibrationRow, ModelVersionRow, PlanRow, RunRow, ShardRow
from audit_service.domain.forecast import Calibration
from audit_service.domain.lifecycle import RunState, ShardState


def plans(*, model_version_id: str | None = None, behavior_version_id: str | None = None) -> Select[PlanRow]:
    wanted = {PlanRow.model_version_id: model_version_id, PlanRow.behavior_version_id: behavior_version_id}
    return narrowed(select(PlanRow), wanted)


def plan_with_terms(session: ReadSession, terms_digest: str) -> PlanRow | None:
    """The youngest of them: an exploratory one follows one that lost its claim to come first."""
    query = select(PlanRow).where(PlanRow.terms_digest == terms_digest).order_by(PlanRow.id.desc()).limit(1)
    return session.scalars(query).one_or_none()


def plans_of_parts(
    session: ReadSession, *, model_version_id: str, behavior_version_id: str, pair_set_id: str
) -> Sequence[PlanRow]:
    """Those over the same parts, oldest first."""
    query = select(PlanRow).where(
        PlanRow.model_version_id == model_version_id,
        PlanRow.behavior_version_id == behavior_version_id,
        PlanRow.pair_set_id == pair_set_id,
    )
    return session.scalars(query.order_by(PlanRow.id)).all()


def calibrations(session: ReadSession, model_version_id: str) -> list[Calibration]:
    """What work costs on the kinds of workers that have run the model."""
    query = select(CalibrationRow).where(CalibrationRow.model_version_id == model_version_id)
    return [row.content for row in session.scalars(query.order_by(CalibrationRow.id))]


def _asked_for() -> ColumnElement[bool]:
    """Runs that have begun or may begin: all but those that were cancelled before they did."""
    return RunRow.started_at.is_not(None) | (RunRow.state != RunState.CANCELLED)


def has_run(session: ReadSession, plan_id: str) -> bool:
    query = select(RunRow.id).where(RunRow.plan_id == plan_id, _asked_for()).limit(1)
    return session.scalar(query) is not None


def other_plan_run_last(
    session: ReadSession, *, model_digest: str, behavior_id: str, terms_digest: str
) -> PlanRow | None:
    """The plan of other terms over this model and behavior that was run last: its numbers can be looked at."""
    query = (
        select(PlanRow)
        .join(RunRow, RunRow.plan_id == PlanRow.id)
        .join(ModelVersionRow, ModelVersionRow.id == PlanRow.model_version_id)
        .join(BehaviorVersionRow, BehaviorVersionRow.id == PlanRow.behavior_version_id)
        .where(
            ModelVersionRow.digest == model_digest,
            BehaviorVersionRow.behavior_id == behavior_id,
            PlanRow.terms_digest != terms_digest,
            _asked_for(),
        )
        .order_by(RunRow.id.desc())
        .limit(1)
    )
    return session.scalars(query).one_or_none()


def runs(*, plan_id: str | None = None, state: RunState | None = None) -> Select[RunRow]:
    return narrowed(select(RunRow), {RunRow.plan_id: plan_id, RunRow.state: state})


def shards_of(run_id: str) -> Select[ShardRow]:
    return select(ShardRow).where(ShardRow.run_id == run_id)


def progress(session: ReadSession, run_id: str) -> Progress:
    busy = func.coalesce(ShardRow.ended_at, ShardRow.heartbeat_at) - ShardRow.started_at
    query = select(
        func.coalesce(func.sum(ShardRow.done), 0),
        func.coalesce(func.sum(ShardRow.total), 0),
        func.count().filter(ShardRow.state == ShardState.DONE),
        func.count(),
        func.count().filter(ShardRow.state == ShardState.RUNNING),
        func.extract("epoch", func.sum(busy)),
    ).where(ShardRow.run_id == run_id)
    done, total, shards_done, shards, workers, seconds = session.execute(query).one()
    pace = float(seconds) / done if done and seconds else None
    return Progress(
        done=done,
        total=total,
        shards_done=shards_done,
        shards=shards,
        running_effect=_effect_seen_last(session, run_id),
        seconds_left=None if pace is None else round(pace * (total - done) / max(workers, 1), 1),
    )


def _effect_seen_last(session: ReadSession, run_id: str) -> float | None:
    query = (
        select(ShardRow.running_effect)
        .where(ShardRow.run_id == run_id, ShardRow.running_effect.is_not(None))
        .order_by(ShardRow.heartbeat_at.desc())
        .limit(1)
    )
    return session.scalar(query)
