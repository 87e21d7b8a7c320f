"""Queries on accepted runs and revalidations."""

from sqlalchemy import Select, select

from audit_service.db.handles import ReadSession
from audit_service.db.queries import narrowed
from audit_service.db.tables import (
    ApprovalRow,
    BehaviorRow,
    BehaviorVersionRow,
    ModelRow,
    ModelVersionRow,
    PlanRow,
    RevalidationRow,
    RunRow,
)
from audit_service.domain.approvals import ACCEPTING, Record
from audit_service.domain.lifecycle import RunState


def revalidations(*, earlier_run_id: str | None = None) -> Select[RevalidationRow]:
    return narrowed(select(RevalidationRow), {RevalidationRow.earlier_run_id: earlier_run_id})


def of_run(session: ReadSession, run_id: str) -> RevalidationRow | None:
    return session.scalars(select(RevalidationRow).where(RevalidationRow.run_id == run_id)).one_or_none()


def acceptances(*, model: str | None = None, behavior: str | None = None) -> Select[ApprovalRow]:
    """Decisions that accept a run's verdict, of the model and the behavior of these names, whatever their versions."""
    query = (
        select(ApprovalRow)
        .join(RunRow, RunRow.id == ApprovalRow.run_id)
        .join(PlanRow, PlanRow.id == RunRow.plan_id)
        .join(ModelVersionRow, ModelVersionRow.id == PlanRow.model_version_id)
        .join(ModelRow, ModelRow.id == ModelVersionRow.model_id)
        .join(BehaviorVersionRow, BehaviorVersionRow.id == PlanRow.behavior_version_id)
        .join(BehaviorRow, BehaviorRow.id == BehaviorVersionRow.behavior_id)
        .where(ApprovalRow.record == Record.VERDICT, ApprovalRow.state.in_(ACCEPTING))
        .where(RunRow.state == RunState.COMPLETED)
    )
    return narrowed(query, {ModelRow.name: model, BehaviorRow.name: behavior})


def accepted_last(session: ReadSession, *, model: str, behavior: str) -> RunRow | None:
    """The run that stands for the model and the behavior: the one that was accepted last."""
    query = acceptances(model=model, behavior=behavior).order_by(ApprovalRow.decided_at.desc()).limit(1)
    found = session.scalars(query).one_or_none()
    return None if found is None or found.run_id is None else session.get_one(RunRow, found.run_id)


def is_accepted(session: ReadSession, run_id: str) -> bool:
    return session.scalars(acceptances().where(ApprovalRow.run_id == run_id).limit(1)).one_or_none() is not None


def newest_version(session: ReadSession, model_id: str) -> ModelVersionRow | None:
    query = select(ModelVersionRow).where(ModelVersionRow.model_id == model_id)
    return session.scalars(query.order_by(ModelVersionRow.created_at.desc(), ModelVersionRow.id.desc())).first()
