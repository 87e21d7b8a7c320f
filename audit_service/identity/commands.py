"""``audit-service users``, ``tokens``, ``organisations`` and ``operator``: who may do what, by command."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from audit_service.domain.roles import Role
from audit_service.errors import Conflict, InvalidInput, NotFound
from audit_service.identity.passwords import SHORTEST as SHORTEST_PASSWORD
from audit_service.settings import get_settings
from audit_service.terminal import request

if TYPE_CHECKING:
    from audit_service.db.handles import Database

users = typer.Typer(help="The people of your organisation.", no_args_is_help=True)
tokens = typer.Typer(help="The tokens of your organisation.", no_args_is_help=True)
organisations = typer.Typer(help="Organisations; needs the database's own login.", no_args_is_help=True)
operator = typer.Typer(
    help="Help for people who cannot help themselves; needs the database's own login, and is logged.",
    no_args_is_help=True,
)

_Password = Annotated[
    str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True, help="At least twelve characters.")
]
_Email = Annotated[str, typer.Argument(help="The person's e-mail address.")]
_Organisation = Annotated[str | None, typer.Option(help="The organisation's name, where the person works for several.")]


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


@users.command("change")
def change_user(
    email: _Email,
    role: Annotated[Role | None, typer.Option(help="Another role.")] = None,
    active: Annotated[bool | None, typer.Option("--active/--no-access", help="Give or take access.")] = None,
) -> None:
    """Give a person another role, or take the access away or back; services' tokens that go beyond it are revoked."""
    from audit_service.identity.schemas import UserChange  # noqa: PLC0415
    from audit_service.processes import connected  # noqa: PLC0415

    if role is None and active is None:
        raise InvalidInput("Nothing is to be changed.", remedy="Name --role, --active or --no-access.")
    given = {"role": role, "active": active}
    with connected(get_settings()) as client:
        found = next((one for one in client.users() if one.email == email.lower()), None)
        if found is None:
            raise NotFound(f"{email} does not work here.", remedy="List the people with `audit-service users list`.")
        wanted = request(UserChange, **{name: value for name, value in given.items() if value is not None})
        changed = client.change_user(found.id, wanted)
    typer.echo(f"{changed.email} is {changed.role}{'' if changed.active else ', without access'}.")


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
    from audit_service.identity import bootstrap  # noqa: PLC0415

    _checked(password)
    with _owned() as database:
        typer.echo(bootstrap.add_organisation(database, name, email=email, password=password).text)


@operator.command("reset-password")
def reset_password(email: _Email, password: _Password, organisation: _Organisation = None) -> None:
    """Give a person another password; the person's sign-ins end."""
    from audit_service.identity import operating  # noqa: PLC0415

    _checked(password)
    with _owned() as database:
        operating.reset_password(database, email, password, organisation=organisation)
    typer.echo(f"{email} has another password now.")


@operator.command("deactivate")
def deactivate(email: _Email, organisation: _Organisation = None) -> None:
    """Take a person's access away: sign-ins end, and the person's tokens are worth nothing."""
    from audit_service.identity import operating  # noqa: PLC0415

    with _owned() as database:
        operating.set_access(database, email, active=False, organisation=organisation)
    typer.echo(f"{email} has no access any more.")


@operator.command("activate")
def activate(email: _Email, organisation: _Organisation = None) -> None:
    """Give a person's access back."""
    from audit_service.identity import operating  # noqa: PLC0415

    with _owned() as database:
        operating.set_access(database, email, active=True, organisation=organisation)
    typer.echo(f"{email} has access.")


@operator.command("reissue-token")
def reissue_token(
    of: Annotated[str, typer.Argument(help="The lost token's id; or a person's address, for one instead of all.")],
    organisation: _Organisation = None,
    days: Annotated[int, typer.Option(min=1, max=366, help="How long it lasts.")] = 90,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it to this machine's commands instead.")] = False,
) -> None:
    """Revoke a lost token, and print one in its place once."""
    from datetime import timedelta  # noqa: PLC0415

    from audit_service.identity import operating  # noqa: PLC0415
    from audit_service.processes import keep_token  # noqa: PLC0415

    with _owned() as database:
        made = operating.reissue(database, of, lasts=timedelta(days=days), organisation=organisation)
    if keep:
        keep_token(get_settings(), made.text)
        typer.echo("The commands of this data directory find it there.")
    else:
        typer.echo(made.text)


@contextmanager
def _owned() -> Iterator["Database"]:
    """The database with its own login."""
    from audit_service.db.handles import Database  # noqa: PLC0415
    from audit_service.processes import surroundings  # noqa: PLC0415

    with surroundings() as settings:
        if settings.database_url is None:
            raise Conflict("There is no database.", remedy="Set AUDIT_DATABASE_URL.")
        database = Database(settings.database_url)
        try:
            yield database
        finally:
            database.close()


def _checked(password: str) -> None:
    if len(password) < SHORTEST_PASSWORD:
        raise InvalidInput("The password is too short.", remedy=f"Take one of at least {SHORTEST_PASSWORD} characters.")
