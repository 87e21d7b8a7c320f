"""Repeating a plan unchanged on another version (METHOD.md section 9)."""

from audit_service.audits import planning
from audit_service.audits import service as audits
from audit_service.audits.schemas import PlanCreate, RunCreate
from audit_service.db.base import Ensured
from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.tables import ModelVersionRow, PlanRow, RevalidationRow, RunRow
from audit_service.domain.lifecycle import RunState
from audit_service.domain.plan import Plan
from audit_service.errors import Conflict, NotFound
from audit_service.registry import service as registry
from audit_service.revalidation import repository
from audit_service.revalidation.schemas import RevalidationCreate


def revalidate(session: WriteSession, wanted: RevalidationCreate, *, by: str) -> Ensured[RevalidationRow]:
    """Start a run of the earlier run's plan on the version.

    Raises:
        Conflict: the earlier run is not completed, or the version is of another model.
        InvalidInput, ModelChanged, BrokerDown: see ``planning.make_plan`` and ``audits.service.start``.
    """
    earlier = audits.run(session, wanted.earlier_run_id)
    if earlier.state is not RunState.COMPLETED:
        raise Conflict(f"The earlier run is {earlier.state}.", remedy="Name one that is completed.")
    version = registry.version(session, wanted.model_version_id)
    before = registry.version(session, earlier.plan.model_version_id)
    if version.model_id != before.model_id:
        raise Conflict(
            f"The version is of {version.name}, the earlier run of {before.name}.",
            remedy="Name a version of the same model.",
        )
    return Ensured(repeat(session, earlier, version, by=by), is_new=True)


def repeat(session: WriteSession, earlier: RunRow, version: ModelVersionRow, *, by: str) -> RevalidationRow:
    """The same terms on another version, as a run of its own."""
    fixed = earlier.plan.content
    made = planning.make_plan(session, _same_terms(earlier.plan, version), defined=fixed.metrics, scope=fixed.scope)
    if made.is_new:  # whoever planned the terms planned these, whoever repeats them
        made.row.person_id = earlier.plan.person_id
    run = audits.start(session, RunCreate(plan_id=made.row.id), by=by).row
    row = RevalidationRow(run=run, earlier_run=earlier)
    session.add(row)
    session.flush()
    return row


def _same_terms(earlier: PlanRow, version: ModelVersionRow) -> PlanCreate:
    """All that the earlier plan fixes; only the model is another."""
    terms = PlanCreate.model_fields.keys() & Plan.model_fields.keys()
    return PlanCreate(
        model_version_id=version.id,
        behavior_version_id=earlier.behavior_version_id,
        pair_set_id=earlier.pair_set_id,
        **{name: getattr(earlier.content, name) for name in terms},
    )


def revalidation(session: ReadSession, run_id: str) -> RevalidationRow:
    run = audits.run(session, run_id)
    if (row := repository.of_run(session, run.id)) is None:
        raise NotFound(f"The run {run_id} repeats no other.", remedy="List them with GET /v1/revalidations.")
    return row
