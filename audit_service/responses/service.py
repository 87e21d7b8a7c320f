"""Answering findings."""

from datetime import UTC, datetime

from sqlalchemy import Select, select

from audit_service.audits import service as audits
from audit_service.db.base import Ensured
from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.tables import ResponseRow, RunRow
from audit_service.domain.approvals import Response, check_scope
from audit_service.domain.results import VerdictValue
from audit_service.domain.robustness import BEHAVIOR
from audit_service.errors import Conflict
from audit_service.findings import service as findings
from audit_service.identity.principals import Principal
from audit_service.responses.schemas import ResponseCreate


def respond(session: WriteSession, run_id: str, wanted: ResponseCreate, by: Principal) -> Ensured[ResponseRow]:
    """Put an answer on record; the next edition of the report prints it beside the item.

    Raises:
        Forbidden: the caller is no person.
        NotFound: there is no such run, or it is not judged.
        InvalidInput: the plan has no such form.
        Conflict: there is no open item to answer to.
    """
    by.require_person()
    run = audits.run(session, run_id)
    check_scope(run.plan.content, wanted.scope)
    _require_open_item(session, run, wanted.scope)
    response = Response(person=by.name, at=datetime.now(UTC), **dict(wanted))
    row = ResponseRow(run_id=run.id, response=response)
    session.add(row)
    session.flush()
    return Ensured(row, is_new=True)


def responses(session: ReadSession, run_id: str) -> Select[ResponseRow]:
    """The answers to the run's findings. NotFound for a run that is not there."""
    return on_record(audits.run(session, run_id).id)


def on_record(run_id: str) -> Select[ResponseRow]:
    return select(ResponseRow).where(ResponseRow.run_id == run_id)


def _require_open_item(session: ReadSession, run: RunRow, scope: str) -> None:
    judged = findings.verdict(session, run.id).judgement.forms
    still_open = [form.scope for form in judged if form.value is not VerdictValue.PASS]
    if not still_open or scope not in {BEHAVIOR, *still_open}:
        raise Conflict(
            f"The run has no open item on {scope}.",
            remedy=f"Open items are on: {', '.join(still_open) or 'nothing, every form passed'}.",
        )
