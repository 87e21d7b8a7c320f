"""``audit-service users``, ``tokens``, ``organisations`` and ``check-log``: who may do what, from the command line."""

import json
from pathlib import Path
from typing import Annotated

import typer

from audit_service.domain.chain import first_break
from audit_service.errors import Conflict, InvalidInput
from audit_service.identity.permissions import Role
from audit_service.settings import get_settings

users = typer.Typer(help="The people of your organisation.", no_args_is_help=True)
tokens = typer.Typer(help="The tokens of your organisation.", no_args_is_help=True)
organisations = typer.Typer(help="Organisations; needs the database's own login.", no_args_is_help=True)

_Password = Annotated[
    str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True, help="At least twelve characters.")
]


@users.command("add")
def add_user(
    email: Annotated[str, typer.Argument(help="E-mail address; the name to sign in with.")],
    role: Annotated[Role, typer.Option(help="What the person may do.")],
    password: _Password,
    name: Annotated[str, typer.Option(help="The person's name; the address if left out.")] = "",
) -> None:
    """Let a person work for your organisation."""
    from audit_service.processes import connected  # noqa: PLC0415 - other commands start faster without it

    with connected(get_settings()) as client:
        made = client.add_user(email=email, name=name or email, role=role, password=password)
    typer.echo(f"{made.email} is {made.role} now.")


@users.command("list")
def list_users() -> None:
    """List the people and their roles."""
    from audit_service.processes import connected  # noqa: PLC0415

    with connected(get_settings()) as client:
        for user in client.users():
            typer.echo(f"{user.id}  {user.role:9} {'' if user.active else '(no access) '}{user.email}")


@tokens.command("add")
def add_token(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    role: Annotated[Role, typer.Option(help="What it may do.")],
    days: Annotated[int, typer.Option(min=1, max=366, help="How long it lasts.")] = 90,
) -> None:
    """Make a token for a service, and print it once."""
    from audit_service.identity.schemas import TokenCreate  # noqa: PLC0415
    from audit_service.processes import connected  # noqa: PLC0415

    with connected(get_settings()) as client:
        typer.echo(client.issue_token(TokenCreate(name=name, role=role, days=days)).token)


@tokens.command("list")
def list_tokens() -> None:
    """List the tokens, without their texts."""
    from audit_service.processes import connected  # noqa: PLC0415

    with connected(get_settings()) as client:
        for token in client.tokens():
            state = "revoked" if token.revoked_at else f"until {token.expires_at:%Y-%m-%d}"
            typer.echo(f"{token.id}  {token.role or 'own':9} {state}  {token.name}")


@tokens.command("revoke")
def revoke_token(token_id: Annotated[str, typer.Argument(help="The token's id.")]) -> None:
    """Revoke a token."""
    from audit_service.processes import connected  # noqa: PLC0415

    with connected(get_settings()) as client:
        typer.echo(f"{client.revoke_token(token_id).name} is revoked.")


@organisations.command("add")
def add_organisation(
    name: Annotated[str, typer.Argument(help="The organisation's name.")],
    email: Annotated[str, typer.Option(help="Its first administrator's e-mail address.")],
    password: _Password,
) -> None:
    """Make an organisation with its first administrator, and print that one's token once."""
    from audit_service.db.handles import Database  # noqa: PLC0415
    from audit_service.identity import bootstrap  # noqa: PLC0415
    from audit_service.processes import surroundings  # noqa: PLC0415

    with surroundings() as settings:
        if settings.database_url is None:
            raise Conflict("There is no database.", remedy="Set AUDIT_DATABASE_URL.")
        made = bootstrap.add_organisation(Database(settings.database_url), name, email=email, password=password)
    typer.echo(made.text)


def check_log(file: Annotated[Path, typer.Argument(help="What GET /v1/events/export gave.")]) -> None:
    """Check an exported event log by itself, and name the first entry that does not hold."""
    try:
        entries = [json.loads(line) for line in file.read_text().splitlines() if line]
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", remedy="Export the log again.") from error
    if found := first_break(entries):
        typer.echo(f"Entry {found.number} DOES NOT HOLD: {found.why}.")
        raise typer.Exit(1)
    typer.echo(f"All {len(entries)} entries hold; the last digest is {entries[-1]['digest'] if entries else 'none'}.")
