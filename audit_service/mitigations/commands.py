"""``audit-service mitigations``: measures against findings, from the command line."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from audit_service.domain.pairfiles import plain_problems
from audit_service.errors import InvalidInput
from audit_service.files import read_whole
from audit_service.terminal import request, service

if TYPE_CHECKING:
    from audit_service.mitigations.schemas import Mitigation, SideEffect

mitigations = typer.Typer(help="Measures that runs were repeated with.", no_args_is_help=True)

_Run = Annotated[str, typer.Argument(help="The id of the run with the measure, which repeats one without it.")]


@mitigations.command("add")
def add(
    run: _Run,
    *,
    title: Annotated[str, typer.Option(help="What the measure is called.")],
    description: Annotated[str, typer.Option(help="What was changed, and where.")],
    fitted_on: Annotated[str, typer.Option(help="The data that it was fitted or chosen on.")],
    side_effects: Annotated[
        Path | None, typer.Option(help="JSON list of what else it changed, as it was measured elsewhere.")
    ] = None,
) -> None:
    """Put a measure on record; what it changed is the comparison of the two runs."""
    from audit_service.mitigations.schemas import MitigationCreate  # noqa: PLC0415 - other commands start faster

    measured = _measured(side_effects) if side_effects else ()
    wanted = request(MitigationCreate, title=title, description=description, fitted_on=fitted_on, side_effects=measured)
    with service() as client:
        typer.echo(_line(client.record_mitigation(run, wanted)))


@mitigations.command("list")
def list_mitigations(run: _Run) -> None:
    """List the measures that the run was repeated with, newest first."""
    with service() as client:
        for record in client.mitigations(run):
            typer.echo(_line(record))


def _measured(file: Path) -> tuple["SideEffect", ...]:
    from audit_service.mitigations.schemas import SideEffect  # noqa: PLC0415

    try:
        return TypeAdapter(tuple[SideEffect, ...]).validate_json(read_whole(file))
    except ValidationError as error:
        raise InvalidInput(
            f"{file} is no list of side effects.",
            remedy='Write them as [{"name": …, "value": …, "unit": …, "method": …}].',
            details=plain_problems(error),
        ) from error


def _line(record: "Mitigation") -> str:
    change = f"output {record.drift.output}, mechanism {record.drift.mechanism}" if record.drift else "not compared yet"
    return f"{record.id}  {record.title} by {record.recorded_by}, without it run {record.earlier_run_id}: {change}"
