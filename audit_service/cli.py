"""``audit-service``: the service, and a whole audit from one file."""

import json
import os
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path
from threading import Event
from typing import Annotated

import typer
from rich.console import Console

from audit_service.approvals.commands import approve
from audit_service.deployments.commands import deployments
from audit_service.errors import AuditError, Cancelled
from audit_service.events.commands import check_log, export_log
from audit_service.identity.commands import operator, organisations, tokens, users
from audit_service.importing.commands import app as importing
from audit_service.library.commands import app as library
from audit_service.logs import configure
from audit_service.mitigations.commands import mitigations
from audit_service.registry.schemas import Dtype
from audit_service.reports.commands import report, runs
from audit_service.responses.commands import responses
from audit_service.schedules.commands import schedules
from audit_service.settings import get_settings
from audit_service.sharing.commands import share

COMMANDS = "audit_service.commands"
"""Entry points of other packages that become commands; those that need torch live with the workers."""

app = typer.Typer(
    name="audit-service",
    help="Causal bias audits of decision models, with evidence an auditor can re-perform.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(library, name="library")
app.add_typer(importing, name="import")
app.add_typer(users, name="users")
app.add_typer(tokens, name="tokens")
app.add_typer(organisations, name="organisations")
app.add_typer(operator, name="operator")
app.add_typer(approve, name="approve")
app.add_typer(share, name="share")
app.add_typer(responses, name="responses")
app.add_typer(mitigations, name="mitigations")
app.add_typer(deployments, name="deployments")
app.add_typer(schedules, name="schedules")
app.command()(runs)
app.command()(report)
app.command()(export_log)
app.command()(check_log)
CANNOT_TELL = 2
"""Exit status of a gate that has nothing to judge by."""
out = Console()
err = Console(stderr=True)


@app.command()
def serve() -> None:
    """Start the API. Without AUDIT_DATABASE_URL and AUDIT_BROKER_URL it starts a private database and broker."""
    from audit_service import processes  # noqa: PLC0415 - the other commands start faster without it

    with processes.surroundings() as settings:
        processes.serve(settings, say=_say)


@app.command()
def beat() -> None:
    """Send the clock's ticks that let workers take over from those that died; one is enough for all workers."""
    from audit_service import processes  # noqa: PLC0415

    with processes.surroundings():
        processes.beat()


@app.command()
def up() -> None:
    """Start everything for one user on this machine: database, broker, API, worker and clock."""
    from audit_service import processes  # noqa: PLC0415

    with processes.surroundings() as settings, processes.everything(settings) as machine:
        _say(f"audit-service answers at {machine.address.url} (documentation: {machine.address.url}/docs)")
        _say(f"Commands on this machine use the administrator's token in {settings.data_dir / 'token'}.")
        _say(f"Logs lie in {settings.data_dir}. Ctrl-C stops everything.")
        with suppress(KeyboardInterrupt):
            Event().wait()


@app.command()
def migrate() -> None:
    """Bring the database of AUDIT_DATABASE_URL to this version of the service."""
    from audit_service.db import migrating  # noqa: PLC0415

    url = get_settings().database_url
    if url is None:
        _say("AUDIT_DATABASE_URL is not set; the embedded database is migrated whenever it starts.")
        return
    migrating.migrate(url)
    _say("The database is up to date.")


@app.command()
def lint(file: Annotated[Path, typer.Argument(help="The audit's YAML file.")]) -> None:
    """Check an audit against the protocol before anything is computed; fails on errors, not on warnings."""
    from audit_service.domain.sentences import english  # noqa: PLC0415
    from audit_service.linting import lint_file  # noqa: PLC0415

    linted = lint_file(file)
    for finding in linted.findings:
        _say(f"{finding.rule} {finding.level}: {english(finding.sentence)}")
        _say(f"  → {english(finding.remedy)}")
    if not linted.findings:
        _say("The protocol has no objection.")
    for sentence in linted.power:
        _say(english(sentence))
    if linted.is_broken:
        raise typer.Exit(1)


@app.command()
def plan(
    files: Annotated[list[Path], typer.Argument(help="Audit files; several share the budget.")],
    minutes: Annotated[float | None, typer.Option(help="Budget: minutes of one worker.")] = None,
    forward_equivalents: Annotated[
        float | None, typer.Option(help="Budget: passes over a whole prompt, the same on every machine.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
) -> None:
    """Show what audits would patch, what a budget leaves of it and what that takes; no effect is computed.

    Coarse looks come before fine ones, and the riskiest behavior first.
    """
    from audit_service.offering import budget_of, offer_files, shown  # noqa: PLC0415

    found = offer_files(files, budget_of(minutes, forward_equivalents), console=err)
    if as_json:
        sys.stdout.write(json.dumps([one.model_dump(mode="json") for one in found], indent=2) + "\n")
        return
    for offered in found:
        for part in shown(offered):
            out.print(part, highlight=False, soft_wrap=isinstance(part, str))


@app.command()
def calibrate(
    audits: Annotated[int, typer.Option(min=20, help="Simulated audits of each world.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of all draws.")] = 1,
) -> None:
    """Simulate audits with known truth: intervals must cover it and tests must keep their level, or this fails."""
    from audit_service.domain.calibration import calibrate as checks  # noqa: PLC0415

    failed = 0
    _say(f"{'':4}{'rate':>6}  {'allowed':14}world, and what is counted over {audits} audits or more")
    for found in checks(audits=audits, seed=seed):
        failed += not found.sound
        said = "ok" if found.sound else "FAIL"
        allowed = f"{found.lowest:.3f}-{found.highest:.3f}"
        _say(f"{said:4}{found.rate:6.3f}  {allowed:14}{found.world}: {found.what}")
    _say(f"{failed} outside of what is allowed." if failed else "All within what is allowed.")
    if failed:
        raise typer.Exit(1)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="The audit's YAML file, such as examples/loan-denial.yaml.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the evidence.")] = Path("evidence"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of sentences.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--detach", help="Stay until the report is there, or leave the run to the service.")
    ] = True,
) -> None:
    """Audit a model: register, plan, trace, judge and report what the file describes."""
    from audit_service.running import run_file  # noqa: PLC0415

    done = run_file(file, out_dir=out_dir, wait=wait, console=err)
    if as_json:
        sys.stdout.write(done.model_dump_json(indent=2) + "\n")
    else:
        for line in done.lines():
            _say(line)


@app.command()
def gate(
    *,
    model: Annotated[str, typer.Option(help="A model folder, a registered model's name, or NAME@VERSION.")],
    behavior: Annotated[str, typer.Option(help="An audit file, or a behavior that was audited on the service.")],
    baseline: Annotated[
        str | None, typer.Option(help="The version to compare with: its label, or a folder with an audit file.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The model's name, where --model is a folder.")] = None,
    junit_file: Annotated[Path | None, typer.Option("--junit", help="Write the checks as a JUnit file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of sentences.")] = False,
) -> None:
    """Let a model pass or not: exits with 0 (pass), 1 (fail) or 2 (cannot tell).

    Fails on a shown disparity or concern, and on a shown change for the worse since the baseline.
    """
    from audit_service.gate.running import Asked, gate_into  # noqa: PLC0415

    try:
        report = gate_into(junit_file, Asked(model, behavior, baseline, name), console=err)
    except Cancelled:
        raise
    except AuditError as error:
        _say_error(error)
        raise typer.Exit(CANNOT_TELL) from error
    except Exception as error:  # status 1 of a mistake of ours would read as the model's
        err.print_exception()
        raise typer.Exit(CANNOT_TELL) from error
    if as_json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    else:
        for line in report.lines():
            _say(line)
    raise typer.Exit(report.outcome.exit_code)


@app.command()
def calendar(
    days: Annotated[int, typer.Option(min=1, max=366, help="How many days ahead.")] = 90,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what is due, overdue and upcoming on the service."""
    from audit_service.processes import connected  # noqa: PLC0415
    from audit_service.schedules.table import shown  # noqa: PLC0415

    with connected(get_settings()) as client:
        entries = client.calendar(until=datetime.now(UTC) + timedelta(days=days))
    if as_json:
        sys.stdout.write(json.dumps([entry.model_dump(mode="json") for entry in entries], indent=2) + "\n")
    else:
        out.print(shown(entries))


@app.command()
def watch(
    folder: Annotated[Path, typer.Argument(help="Folder of NAME/VERSION folders, as the service sees it.")],
    settle: Annotated[float, typer.Option(min=0, help="Seconds without a change until a version is complete.")] = 30.0,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 5.0,
    dtype: Annotated[Dtype, typer.Option(help="The number format to run the models in.")] = Dtype.FLOAT32,
) -> None:
    """Register every model version that is put into a folder, once it is completely there; until Ctrl-C."""
    from audit_service.processes import connected  # noqa: PLC0415
    from audit_service.watching import watch  # noqa: PLC0415

    with connected(get_settings()) as client, suppress(KeyboardInterrupt):
        for line in watch(client, folder, dtype=dtype, settle_s=settle, every_s=every):
            _say(line)


def _say(line: str) -> None:
    out.print(line, highlight=False, soft_wrap=True)


def _say_error(error: AuditError) -> None:
    err.print(f"{error.title}. {error}", style="red", highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Run the command; an error of the user's ends with its remedy, not with a traceback."""
    # Not from the settings: if one of them is wrong, that too is told in the log's format.
    configure(as_json=os.environ.get("AUDIT_LOG_FORMAT") == "json")
    # Threads that wait by spinning take the processor from the other processes of the machine; read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ask us to leave as Ctrl-C does
    for entry in entry_points(group=COMMANDS):
        app.command(entry.name)(entry.load())
    try:
        app()
    except AuditError as error:
        _say_error(error)
        sys.exit(130 if isinstance(error, Cancelled) else 1)
