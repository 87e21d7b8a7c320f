"""``audit-service reperform``: a sample of a bundle's measurements, repeated on this machine."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from audit_service.errors import NotFound


def reperform(
    bundle: Annotated[Path, typer.Argument(help="Bundle (.zip) of a run.")],
    *,
    model: Annotated[Path, typer.Option(help="Folder of the audited model on this machine.")],
    sample: Annotated[int, typer.Option(min=1, help="Pairs to repeat.")] = 5,
    seed: Annotated[int | None, typer.Option(help="Draws the same sample again; none draws a new one.")] = None,
) -> None:
    """Repeat randomly drawn pairs and compare them with the stored cells; exit with 1 if any is out of tolerance."""
    # Importing torch takes seconds that other commands need not wait for.
    from workers.reperforming import reperform as repeated  # noqa: PLC0415

    if not bundle.is_file():
        raise NotFound(f"There is no file {bundle}.", remedy="Give the path of a bundle.")
    drawn = secrets.randbelow(2**32) if seed is None else seed
    typer.echo(f"Sample drawn with seed {drawn}.")
    failed = False
    for one in repeated(bundle.read_bytes(), model=model, sample=sample, seed=drawn):
        verdict = "agrees" if one.holds else "DOES NOT AGREE"
        typer.echo(
            f"{verdict}: {one.pair}, {one.what}: {one.cells} cells, largest deviation {one.deviation:.2g} "
            f"(of {one.widest}; tolerance {one.tolerance:g} nats)"
        )
        failed = failed or not one.holds
    raise typer.Exit(code=1 if failed else 0)
