"""``audit-service approve``: putting records before a reviewer and deciding on them, from the command line."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit_service.domain.approvals import AcceptanceKind, Decision, Record
from audit_service.errors import Cancelled, Conflict, InvalidInput
from audit_service.files import read_whole
from audit_service.terminal import request, service

if TYPE_CHECKING:
    from audit_service.approvals.schemas import ApprovalRecord
    from audit_service.client import Client

approve = typer.Typer(help="Plans, verdicts, reports and risks: submit them, decide on them.", no_args_is_help=True)

_Digest = Annotated[str | None, typer.Option(help="The SHA-256 that you have read and sign for.")]
_File = Annotated[Path | None, typer.Option(help="The file that you have read: its SHA-256 is signed for.")]
_Comment = Annotated[str, typer.Option(help="What goes on record with it.")]


@approve.command("list")
def list_approvals(
    run: Annotated[str | None, typer.Option(help="Only on this run's records.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="What was decided on, too.")] = False,
) -> None:
    """List what waits for a decision, newest first."""
    with service() as client:
        for record in client.approvals(run_id=run, state=None if everything else Decision.SUBMITTED.value):
            typer.echo(_line(record))


@approve.command("submit")
def submit(
    record: Annotated[Record, typer.Argument(help="plan, verdict or report; `accept-risk` is for risks.")],
    about: Annotated[str, typer.Argument(help="The plan's id, or the run's.")],
    digest: _Digest = None,
    file: _File = None,
    comment: _Comment = "",
) -> None:
    """Put a plan, a run's verdict or its report before a reviewer, and sign for its digest."""
    from audit_service.approvals.schemas import Submission  # noqa: PLC0415 - other commands start faster without it

    if record is Record.ACCEPTANCE:
        raise InvalidInput("A risk needs its reason and its end.", remedy="Use `audit-service approve accept-risk`.")
    with service() as client:
        signed = _signed(digest, file) or _confirmed(record.value, _digest_of(client, record, about))
        subject = {"plan_id" if record is Record.PLAN else "run_id": about}
        made = client.submit(request(Submission, record=record, digest=signed, comment=comment, **subject))
    typer.echo(_line(made))


@approve.command("accept-risk")
def accept_risk(
    *,
    run: Annotated[str, typer.Argument(help="The run's id.")],
    reason: Annotated[str, typer.Option(help="Why it can be lived with.")],
    expires: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The day on which it ends, UTC.")],
    kind: Annotated[AcceptanceKind, typer.Option(help="What it is.")] = AcceptanceKind.RISK,
    scope: Annotated[str, typer.Option(help="The form that it is about, or behavior.")] = "behavior",
    conditions: Annotated[str, typer.Option(help="On what conditions.")] = "",
    comment: _Comment = "",
) -> None:
    """Ask a reviewer to accept a known risk or an exception until a day."""
    from audit_service.approvals.schemas import AcceptanceWanted, Submission  # noqa: PLC0415

    until = expires.replace(tzinfo=UTC)
    wanted = request(AcceptanceWanted, kind=kind, scope=scope, reason=reason, conditions=conditions, expires=until)
    with service() as client:
        asked = request(Submission, record=Record.ACCEPTANCE, run_id=run, acceptance=wanted, comment=comment)
        typer.echo(_line(client.submit(asked)))


@approve.command("decide")
def decide(
    approval: Annotated[str, typer.Argument(help="The record's id, as `approve list` shows it.")],
    decision: Annotated[Decision, typer.Argument(help="accepted, accepted_with_conditions, returned or rejected.")],
    digest: _Digest = None,
    file: _File = None,
    comment: Annotated[str, typer.Option(help="The conditions, or why.")] = "",
) -> None:
    """Decide on what somebody else prepared, and sign for its digest. A decision is final."""
    from audit_service.approvals.schemas import DecisionMade  # noqa: PLC0415

    if decision is Decision.SUBMITTED:
        raise InvalidInput("To submit is no decision.", remedy="Accept, return or reject it.")
    with service() as client:
        signed = _signed(digest, file)
        if signed is None:
            present = client.approval(approval)
            signed = _confirmed(present.record.value, present.record_digest)
        made = request(DecisionMade, decision=decision, digest=signed, comment=comment)
        typer.echo(_line(client.decide(approval, made)))


def _signed(digest: str | None, file: Path | None) -> str | None:
    return digest if file is None else hashlib.sha256(read_whole(file)).hexdigest()


def _confirmed(what: str, digest: str) -> str:
    """Who names no digest is asked whether the service's is the one that was read."""
    if not typer.confirm(f"Did you read the {what} whose SHA-256 is {digest}, and sign for it?"):
        raise Cancelled("Nothing was signed.", remedy="Read the record, then sign for its digest.")
    return digest


def _digest_of(client: "Client", record: Record, about: str) -> str:
    if record is Record.PLAN:
        return client.plan(about).digest
    if record is Record.VERDICT:
        return client.verdict(about).digest
    editions = client.reports(about)
    if len({report.language for report in editions}) != 1:
        raise Conflict(
            f"The run has {len(editions)} reports.", remedy="Name the one that you have read with --digest or --file."
        )
    return max(editions, key=lambda report: report.edition).digest


def _line(record: "ApprovalRecord") -> str:
    decided = f", {record.state} by {record.reviewer}" if record.reviewer else ""
    about = f"run {record.run_id}" if record.run_id else f"plan {record.plan_id}"
    return f"{record.id}  {record.record} of {about}, submitted by {record.preparer}{decided}\n  {record.record_digest}"
