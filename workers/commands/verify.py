"""``audit-service verify``: whether a bundle or a report holds, without a server, a network or torch."""

from pathlib import Path
from typing import Annotated

import typer

from audit_service.errors import NotFound

_SIGNED = "It is signed; whether the certificate is the organisation's is for you to compare (--all prints it)."


def verify(
    file: Annotated[Path, typer.Argument(help="Bundle (.zip) or report (.pdf) of a run.")],
    *,
    every: Annotated[bool, typer.Option("--all", help="Print what holds, too.")] = False,
) -> None:
    """Check digests, hash chain, statistics and every printed number; exit with 1 if anything does not hold."""
    # Reading PDFs takes a second of imports that no other command should pay.
    from workers.rendering.verifying import verify as checks_of  # noqa: PLC0415

    if not file.is_file():
        raise NotFound(f"There is no file {file}.", remedy="Give the path of a bundle or a report.")
    checks = list(checks_of(file.read_bytes()))
    failed = [check for check in checks if not check.held]
    for check in checks if every else failed:
        detail = f" ({check.detail})" if check.detail else ""
        typer.echo(f"{'holds' if check.held else 'DOES NOT HOLD'}: {check.what}{detail}")
    typer.echo(f"{len(checks) - len(failed)} of {len(checks)} checks hold.")
    signed = any("signature of" in check.what for check in checks)
    if not failed:
        typer.echo("The file is whole and consistent.")
        typer.echo(_SIGNED if signed else "Without a signature this does not show who made it.")
    raise typer.Exit(code=1 if failed else 0)
