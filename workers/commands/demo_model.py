"""`audit-service demo-model`."""

import typer

from audit_service.settings import get_settings


def demo_model() -> None:
    """Download and convert the demonstration model if it is not there yet, and print its folder."""
    # Importing transformers takes seconds that no other command should pay.
    from workers.demo_model import ensure_demo_model  # noqa: PLC0415

    typer.echo(ensure_demo_model(get_settings().cache_dir, progress=lambda doing: typer.echo(doing, err=True)))
