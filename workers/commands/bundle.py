"""``audit-service bundle``: everything of a run that an auditor needs, in one file."""

from pathlib import Path
from typing import Annotated

import typer

from audit_service.files import write_whole
from audit_service.processes import surroundings


def bundle(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    *,
    out: Annotated[Path, typer.Option(help="File to write the bundle to (.zip).")] = Path("evidence.zip"),
) -> None:
    """Write reports, plan, pairs, cells and statistics of a completed run as one zip that can be verified."""
    with surroundings():
        # Importing the renderer takes seconds that other commands need not wait for.
        from workers.bundling import bundle_of  # noqa: PLC0415
        from workers.runtime import runtime  # noqa: PLC0415

        data = bundle_of(runtime().database, run)
    write_whole(out, data)
    typer.echo(f"Bundle: {out} ({len(data):,} bytes). Check it with: audit-service verify {out}")
