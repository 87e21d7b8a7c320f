"""``audit-service runs`` and ``report``: what was audited, and its report, from the command line."""

from pathlib import Path
from typing import Annotated

import typer

from audit_service.domain.lifecycle import RunState
from audit_service.errors import InvalidInput
from audit_service.files import write_whole
from audit_service.reports.schemas import ReportFormat
from audit_service.terminal import service


def runs(state: Annotated[RunState | None, typer.Option(help="Only runs in this state.")] = None) -> None:
    """List the runs with what they audit, newest first."""
    with service() as client:
        for run in client.runs(state=state):
            plan = client.plan(run.plan_id).content
            audited = f"{plan.behavior.name} on {plan.model.name} {plan.model.version}"
            typer.echo(f"{run.id}  {run.created_at:%Y-%m-%d %H:%M}  {run.state:9}  {audited}")


def report(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    out: Annotated[Path, typer.Option(help="The file to write; its ending names the format: pdf, html, json or docx.")],
    language: Annotated[str, typer.Option(help="Which of the report's languages.")] = "en",
) -> None:
    """Fetch the report of a run as it stands."""
    ending = out.suffix.removeprefix(".").lower()
    if ending not in set(ReportFormat):
        raise InvalidInput(f"{out.name} is no report by its name.", remedy="Let it end in .pdf, .html, .json or .docx.")
    with service() as client:
        write_whole(out, client.report(run, language=language, file_format=ReportFormat(ending)))
    typer.echo(f"{out} is written.")
