"""Putting measures on record.

A measure makes another version of the model. The run that found something is repeated on that version (POST
/v1/revalidations), so that before and after share plan and pairs; what changed is the comparison of the two.
"""

from sqlalchemy import Select, select

from audit_service.audits import service as audits
from audit_service.db.base import Ensured
from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.tables import MitigationRow, RevalidationRow
from audit_service.errors import Conflict
from audit_service.identity.principals import Principal
from audit_service.mitigations.schemas import MitigationCreate
from audit_service.revalidation import repository as revalidations


def record(session: WriteSession, run_id: str, wanted: MitigationCreate, by: Principal) -> Ensured[MitigationRow]:
    """Put a measure on record that the run was repeated with; its report's next edition tells of it.

    Raises:
        Forbidden: the caller is no person.
        NotFound: there is no such run.
        Conflict: the run repeats no other, or is not judged.
    """
    by.require_person()
    run = audits.run(session, run_id)
    repeated = revalidations.of_run(session, run.id)
    if repeated is None or repeated.drift is None:
        raise Conflict(
            f"The run {run_id} shows no change: it {'is not judged' if repeated else 'repeats no other run'}.",
            remedy="Register the model with the measure as a version, repeat the run on it with POST "
            "/v1/revalidations, and wait until it is completed.",
        )
    row = MitigationRow(
        revalidation=repeated,
        title=wanted.title,
        description=wanted.description,
        fitted_on=wanted.fitted_on,
        side_effects=tuple(effect.as_result() for effect in wanted.side_effects),
        recorded_by=by.name,
    )
    session.add(row)
    session.flush()
    return Ensured(row, is_new=True)


def mitigations(session: ReadSession, run_id: str) -> Select[MitigationRow]:
    """The measures that the run was repeated with. NotFound for a run that is not there."""
    return on_record(audits.run(session, run_id).id)


def on_record(run_id: str) -> Select[MitigationRow]:
    return select(MitigationRow).join(RevalidationRow).where(RevalidationRow.run_id == run_id)
