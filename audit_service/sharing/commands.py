"""``audit-service share``: links to a run's evidence for people without an account, from the command line."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from audit_service.settings import get_settings
from audit_service.terminal import request, service

share = typer.Typer(help="Links to a run's report and bundle, for people without an account.", no_args_is_help=True)


@share.command("add")
def add_share(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    days: Annotated[int, typer.Option(min=1, max=366, help="How long it lasts.")] = 30,
    note: Annotated[str, typer.Option(help="For whom.")] = "",
) -> None:
    """Make a link to the youngest edition of the run's evidence, and print it once."""
    from audit_service.sharing.schemas import ShareCreate  # noqa: PLC0415 - other commands start faster without it

    with service() as client:
        made = client.share(run, request(ShareCreate, days=days, note=note))
        typer.echo((get_settings().public_url or client.address).rstrip("/") + made.path)


@share.command("list")
def list_shares(run: Annotated[str | None, typer.Option(help="Only to this run.")] = None) -> None:
    """List the links, without their secrets."""
    now = datetime.now(UTC)
    with service() as client:
        for one in client.shares(run_id=run):
            ended = "ended" if one.expires_at <= now else f"until {one.expires_at:%Y-%m-%d}"
            state = "revoked" if one.revoked_at else ended
            typer.echo(f"{one.id}  run {one.run_id}  {state}, opened {one.opened} times  {one.note}".rstrip())


@share.command("revoke")
def revoke_share(share_id: Annotated[str, typer.Argument(help="The link's id.")]) -> None:
    """End a link now."""
    with service() as client:
        client.revoke_share(share_id)
    typer.echo(f"{share_id} is revoked.")
