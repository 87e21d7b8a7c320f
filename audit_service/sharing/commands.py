"""``audit-service share``: links to a run's evidence for people without an account, from the command line."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from audit_service.settings import get_settings

if TYPE_CHECKING:
    from audit_service.client import Client

share = typer.Typer(help="Links to a run's report and bundle, for people without an account.", no_args_is_help=True)


@share.command("add")
def add_share(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    days: Annotated[int, typer.Option(min=1, max=366, help="How long it lasts.")] = 30,
    note: Annotated[str, typer.Option(help="For whom.")] = "",
) -> None:
    """Make a link to the youngest edition of the run's evidence, and print it once."""
    from audit_service.sharing.schemas import ShareCreate  # noqa: PLC0415 - other commands start faster without it

    with _client() as client:
        typer.echo(client.address + client.share(run, ShareCreate(days=days, note=note)).path)


@share.command("list")
def list_shares(run: Annotated[str | None, typer.Option(help="Only to this run.")] = None) -> None:
    """List the links, without their secrets."""
    now = datetime.now(UTC)
    with _client() as client:
        for one in client.shares(run_id=run):
            ended = "ended" if one.expires_at <= now else f"until {one.expires_at:%Y-%m-%d}"
            state = "revoked" if one.revoked_at else ended
            typer.echo(f"{one.id}  run {one.run_id}  {state}, opened {one.opened} times  {one.note}".rstrip())


@share.command("revoke")
def revoke_share(share_id: Annotated[str, typer.Argument(help="The link's id.")]) -> None:
    """End a link now."""
    with _client() as client:
        client.revoke_share(share_id)
    typer.echo(f"{share_id} is revoked.")


def _client() -> "Client":
    from audit_service.processes import connected  # noqa: PLC0415

    return connected(get_settings())
