"""``audit-service responses``: what management answers to findings, from the command line."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from audit_service.terminal import request, service

if TYPE_CHECKING:
    from audit_service.responses.schemas import ResponseRecord

responses = typer.Typer(help="What management answers to a run's findings.", no_args_is_help=True)

_Run = Annotated[str, typer.Argument(help="The run's id.")]


@responses.command("add")
def add(
    run: _Run,
    *,
    text: Annotated[str, typer.Option(help="The answer.")],
    scope: Annotated[str, typer.Option(help="The form that it is about, or behavior for all open items.")] = "behavior",
    action: Annotated[str, typer.Option(help="What will be done.")] = "",
    owner: Annotated[str, typer.Option(help="Who does it.")] = "",
    due: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="By which day, UTC.")] = None,
) -> None:
    """Answer a finding for management. An answer is final; a later one stands beside it."""
    from audit_service.responses.schemas import ResponseCreate  # noqa: PLC0415 - other commands start faster without it

    until = due.replace(tzinfo=UTC) if due else None
    wanted = request(ResponseCreate, text=text, scope=scope, action=action, owner=owner, due=until)
    with service() as client:
        typer.echo(_line(client.respond(run, wanted)))


@responses.command("list")
def list_responses(run: _Run) -> None:
    """List what was answered, newest first."""
    with service() as client:
        for record in client.responses(run):
            typer.echo(_line(record))


def _line(record: "ResponseRecord") -> str:
    said = record.response
    until = f" by {said.due:%Y-%m-%d}" if said.due else ""
    planned = f"\n  {said.action} ({said.owner or 'nobody named'}{until})" if said.action or said.owner or until else ""
    return f"{record.id}  {said.scope}, {said.person}, {said.at:%Y-%m-%d}: {said.text}{planned}"
