"""``audit-service deployments``: where model versions are in use, from the command line."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from audit_service.errors import NotFound
from audit_service.terminal import request, service

if TYPE_CHECKING:
    from audit_service.client import Client
    from audit_service.deployments.schemas import Deployment

deployments = typer.Typer(help="Where model versions are in use.", no_args_is_help=True)


@deployments.command("add")
def add(
    model: Annotated[str, typer.Argument(help="The model's name.")],
    version: Annotated[str, typer.Argument(help="The version's label.")],
    place: Annotated[str, typer.Argument(help="Where it is in use.")],
    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Since which day, UTC; now.")] = None,
) -> None:
    """Put on record that a model version is in use somewhere."""
    from audit_service.deployments.schemas import DeploymentCreate  # noqa: PLC0415 - other commands start faster

    began = since.replace(tzinfo=UTC) if since else None
    with service() as client:
        version_id = _version(client, model, version)
        wanted = request(DeploymentCreate, model_version_id=version_id, place=place, since=began)
        typer.echo(_line(client.record_deployment(wanted)))


@deployments.command("list")
def list_deployments(model: Annotated[str | None, typer.Option(help="Only of this model.")] = None) -> None:
    """List where model versions are and were in use, newest first."""
    with service() as client:
        for one in client.deployments(model=model):
            typer.echo(_line(one))


@deployments.command("end")
def end(
    deployment: Annotated[str, typer.Argument(help="The deployment's id, as `list` shows it.")],
) -> None:
    """The version is no longer in use there."""
    with service() as client:
        typer.echo(_line(client.end_deployment(deployment)))


def _version(client: "Client", model: str, version: str) -> str:
    found = next((one.id for one in client.model_versions(model=model) if one.version == version), None)
    if found is None:
        raise NotFound(f"There is no version {version!r} of {model!r}.", remedy="Register it, or correct the names.")
    return found


def _line(one: "Deployment") -> str:
    until = f" until {one.ended_at:%Y-%m-%d}" if one.ended_at else ""
    return f"{one.id}  {one.model} {one.version} in {one.place} since {one.since:%Y-%m-%d}{until}, {one.recorded_by}"
