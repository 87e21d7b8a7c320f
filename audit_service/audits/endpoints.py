"""/v1/plans and /v1/runs."""

from typing import Annotated

from fastapi import APIRouter, Query

from audit_service.audits import planning, repository, service
from audit_service.audits.schemas import Offers, PlanCreate, PlanRecord, Run, RunCreate, RunDetail, Shard
from audit_service.border.idempotency import Idempotent
from audit_service.border.paging import ById, ByNumber, Page, Paging, paged, sortable
from audit_service.border.routes import Guarded
from audit_service.border.schemas import Body, Uuid
from audit_service.border.transactions import Actor, Reading, Writing
from audit_service.db.tables import PlanRow, RunRow, ShardRow
from audit_service.domain.lifecycle import RunState
from audit_service.problems import WITH_BODY, responses

plans = APIRouter(prefix="/plans", tags=["plans"], route_class=Guarded)
runs = APIRouter(prefix="/runs", tags=["runs"], route_class=Guarded)


@plans.post("", status_code=201, responses=responses(*WITH_BODY, 404, 409, existing=PlanRecord))
def make_plan(body: Body[PlanCreate], session: Writing, once: Idempotent) -> PlanRecord:
    """Freeze a plan and learn what it will cost. The same terms give the plan that is there (200).

    Refused: parts that do not fit each other, and a model whose files changed after registration.
    """
    return once.answer(session, PlanRecord, lambda: planning.make_plan(session, body))


@plans.post("/offers", responses=responses(*WITH_BODY, 404))
def offer_scopes(body: Body[PlanCreate], session: Reading) -> Offers:
    """What the tracing asked for would take, step by step, and how far its budget reaches. Nothing is stored."""
    return planning.offers(session, body)


@plans.get("")
def list_plans(
    session: Reading,
    paging: ById,
    model_version_id: Annotated[Uuid | None, Query(description="Only plans over this model version.")] = None,
    behavior_version_id: Annotated[Uuid | None, Query(description="Only plans over this behavior version.")] = None,
) -> Page[PlanRecord]:
    """The plans, newest first."""
    query = repository.plans(model_version_id=model_version_id, behavior_version_id=behavior_version_id)
    return paged(session, query, paging, key=PlanRow.id).page(PlanRecord)


@plans.get("/{plan_id}", responses=responses(404))
def get_plan(plan_id: Uuid, session: Reading) -> PlanRecord:
    """One plan with all that it fixes."""
    return PlanRecord.of(planning.plan(session, plan_id))


@runs.post("", status_code=201, responses=responses(*WITH_BODY, 404, 409))
def start_run(body: Body[RunCreate], session: Writing, once: Idempotent, actor: Actor) -> Run:
    """Start a run of a plan. Follow it under /v1/runs/{id}/events."""
    return once.answer(session, Run, lambda: service.start(session, body, by=actor))


@runs.get("")
def list_runs(
    session: Reading,
    paging: Annotated[Paging, sortable(state=RunRow.state)],
    plan_id: Annotated[Uuid | None, Query(description="Only runs of this plan.")] = None,
    state: Annotated[RunState | None, Query(description="Only runs in this state.")] = None,
) -> Page[Run]:
    """The runs, newest first."""
    return paged(session, repository.runs(plan_id=plan_id, state=state), paging, key=RunRow.id).page(Run)


@runs.get("/{run_id}", responses=responses(404))
def get_run(run_id: Uuid, session: Reading) -> RunDetail:
    """One run and how far it is."""
    row = service.run(session, run_id)
    shown = Run.of(row).model_dump()
    return RunDetail(**shown, plan_digest=row.plan.digest, progress=repository.progress(session, run_id))


@runs.get("/{run_id}/shards", responses=responses(404))
def list_shards(run_id: Uuid, session: Reading, paging: ByNumber) -> Page[Shard]:
    """The run's units of queue work in the plan's order."""
    run = service.run(session, run_id)
    return paged(session, repository.shards_of(run.id), paging, key=ShardRow.ordinal).page(Shard)


@runs.post("/{run_id}/cancel", responses=responses(404, 409))
def cancel_run(run_id: Uuid, session: Writing, actor: Actor) -> Run:
    """End a run for good."""
    return Run.of(service.cancel(session, run_id, by=actor))


@runs.post("/{run_id}/pause", responses=responses(404, 409))
def pause_run(run_id: Uuid, session: Writing, actor: Actor) -> Run:
    """Pause a run that is queued or running; what is traced is kept."""
    return Run.of(service.pause(session, run_id, by=actor))


@runs.post("/{run_id}/resume", responses=responses(404, 409))
def resume_run(run_id: Uuid, session: Writing, actor: Actor) -> Run:
    """Go on with a paused or failed run where it stopped."""
    return Run.of(service.resume(session, run_id, by=actor))
