"""``audit-service export-log`` and ``check-log``: the event log, and whether it holds, from the command line."""

import json
from pathlib import Path
from typing import Annotated

import typer

from audit_service.domain.chain import first_break
from audit_service.errors import InvalidInput
from audit_service.files import write_whole
from audit_service.terminal import service


def export_log(file: Annotated[Path, typer.Argument(help="The file to write, one entry a line.")]) -> None:
    """Fetch the organisation's whole event log."""
    with service() as client:
        write_whole(file, client.export_events())
    typer.echo(f"{file} is written; check it with `audit-service check-log {file}`.")


def check_log(file: Annotated[Path, typer.Argument(help="What `audit-service export-log` wrote.")]) -> None:
    """Check an exported event log by itself, and name the first entry that does not hold."""
    try:
        entries = [json.loads(line) for line in file.read_text().splitlines() if line]
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", remedy="Export the log again.") from error
    if found := first_break(entries):
        typer.echo(f"Entry {found.number} DOES NOT HOLD: {found.why}.")
        raise typer.Exit(1)
    typer.echo(f"All {len(entries)} entries hold; the last digest is {entries[-1]['digest'] if entries else 'none'}.")
