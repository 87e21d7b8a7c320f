"""``audit-service schedules``: when audits are due again, from the command line."""

import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_service.errors import InvalidInput, NotFound
from audit_service.terminal import request, service

if TYPE_CHECKING:
    from audit_service.client import Client
    from audit_service.schedules.schemas import Occurrence, Schedule

schedules = typer.Typer(help="When the accepted audits of models are repeated.", no_args_is_help=True)

_Schedule = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Its name, or its id.")]
_Cron = Annotated[
    str | None, typer.Option(help="Due at these times: minute hour day-of-month month day-of-week, at most hourly.")
]
_Zone = Annotated[str | None, typer.Option("--timezone", help="The zone of these times, such as Europe/Berlin.")]
_Jitter = Annotated[int | None, typer.Option("--jitter", help="Delay each time by a fixed part of so many minutes.")]
_Versions = Annotated[
    bool | None, typer.Option("--on-new-version/--not-on-new-version", help="Due for every new version of the model.")
]
_Grace = Annotated[int | None, typer.Option("--grace-hours", help="Overdue if not completed so long after it was due.")]


@schedules.command("list")
def list_schedules(
    everything: Annotated[bool, typer.Option("--all", help="Those that were retired, too.")] = False,
) -> None:
    """List the schedules, newest first."""
    with service() as client:
        for one in client.schedules(retired=everything):
            typer.echo(_line(one))


@schedules.command("show")
def show(schedule: _Schedule) -> None:
    """Show a schedule with what came of it, newest first."""
    with service() as client:
        found = _found(client, schedule)
        typer.echo(_line(found))
        for one in client.occurrences(found.id):
            typer.echo(f"  {_came(one)}")


@schedules.command("add")
def add(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    *,
    model: Annotated[str, typer.Option(help="The model's name.")],
    behavior: Annotated[str, typer.Option(help="The behavior's name.")],
    cron: _Cron = None,
    timezone: _Zone = None,
    jitter: _Jitter = None,
    on_new_version: _Versions = None,
    grace_hours: _Grace = None,
) -> None:
    """Let the accepted audit of a behavior on a model be repeated; on every new version if nothing else is said."""
    from audit_service.schedules.schemas import ScheduleCreate  # noqa: PLC0415 - other commands start faster without it

    rule = _given(cron=cron, timezone=timezone, jitter_minutes=jitter)
    terms = _given(rule=rule or None, on_new_version=on_new_version, grace_hours=grace_hours)
    with service() as client:
        wanted = request(ScheduleCreate, name=name, model=model, behavior=behavior, **terms)
        typer.echo(_line(client.make_schedule(wanted)))


@schedules.command("change")
def change(
    schedule: _Schedule,
    *,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    cron: _Cron = None,
    timezone: _Zone = None,
    jitter: _Jitter = None,
    no_rule: Annotated[bool, typer.Option("--no-rule", help="Due at no times any more.")] = False,
    on_new_version: _Versions = None,
    grace_hours: _Grace = None,
) -> None:
    """Give a schedule another name or other terms from now on; what is not named stays."""
    from audit_service.schedules.schemas import ScheduleChange  # noqa: PLC0415

    rule = _given(cron=cron, timezone=timezone, jitter_minutes=jitter)
    terms = _given(name=name, on_new_version=on_new_version, grace_hours=grace_hours)
    if rule and no_rule:
        raise InvalidInput("A rule cannot be changed and taken away at once.", remedy="Leave one out.")
    with service() as client:
        present = _found(client, schedule)
        if rule:
            terms["rule"] = (present.rule.model_dump() if present.rule else {}) | rule
        elif no_rule:
            terms["rule"] = None
        typer.echo(_line(client.change_schedule(present.id, request(ScheduleChange, **terms))))


@schedules.command("pause")
def pause(schedule: _Schedule) -> None:
    """Start nothing of a schedule until it is resumed; its times still come, and are overdue."""
    with service() as client:
        typer.echo(_line(client.pause_schedule(_found(client, schedule).id)))


@schedules.command("resume")
def resume(schedule: _Schedule) -> None:
    """Go on from now; what came meanwhile is not caught up."""
    with service() as client:
        typer.echo(_line(client.resume_schedule(_found(client, schedule).id)))


@schedules.command("retire")
def retire(schedule: _Schedule) -> None:
    """End a schedule for good. What came of it stays on record, and its name is free."""
    with service() as client:
        typer.echo(_line(client.retire_schedule(_found(client, schedule).id)))


@schedules.command("retry")
def retry(
    occurrence: Annotated[str, typer.Argument(help="The occurrence's id, as `show` prints it.")],
) -> None:
    """Try again to start what was refused."""
    with service() as client:
        typer.echo(_came(client.retry_occurrence(occurrence)))


def _given(**values: object) -> dict[str, Any]:
    """What was said."""
    return {name: value for name, value in values.items() if value is not None}


def _found(client: "Client", schedule: str) -> "Schedule":
    with suppress(ValueError):
        return client.schedule(str(uuid.UUID(schedule)))
    found = next(client.schedules(name=schedule), None)
    if found is None:
        raise NotFound(f"There is no schedule {schedule!r}.", remedy="List them with `audit-service schedules list`.")
    return found


def _line(schedule: "Schedule") -> str:
    rule = schedule.rule
    due = [f"at {rule.cron} {rule.timezone}"] if rule else []
    due += ["on every new version"] if schedule.on_new_version else []
    said = [f"{schedule.behavior} on {schedule.model}", " and ".join(due)]
    if schedule.retired_at:
        said.append(f"retired {schedule.retired_at:%Y-%m-%d}")
    elif schedule.paused:
        said.append("paused")
    if schedule.next_due:
        said.append(f"next {schedule.next_due:%Y-%m-%d %H:%M} UTC")
    if schedule.overdue_since:
        said.append(f"OVERDUE since {schedule.overdue_since:%Y-%m-%d %H:%M} UTC")
    return f"{schedule.id}  {schedule.name}: {', '.join(said)}"


def _came(one: "Occurrence") -> str:
    missed = f" (and {one.collapsed} missed before)" if one.collapsed else ""
    run = f", run {one.run_id}" if one.run_id else ""
    reason = f": {one.reason}" if one.reason else ""
    return f"{one.id}  {one.kind} due {one.due_at:%Y-%m-%d %H:%M} UTC{missed}, {one.state}{run}{reason}"
