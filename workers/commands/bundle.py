"""``audit-service bundle``: everything of a run that an auditor needs, in one file."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from audit_service.files import write_whole
from audit_service.running import service
from audit_service.settings import get_settings

err = Console(stderr=True)


def bundle(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    *,
    out: Annotated[Path, typer.Option(help="File to write the bundle to (.zip).")] = Path("evidence.zip"),
) -> None:
    """Fetch reports, plan, pairs, cells and statistics of a completed run as one zip that can be verified."""
    with service(get_settings(), wait=True, console=err) as client:
        write_whole(out, client.bundle(run))
    typer.echo(f"Bundle: {out} ({out.stat().st_size:,} bytes). Check it with: audit-service verify {out}")
