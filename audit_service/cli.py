"""``audit-service``: the service, and a whole audit from one file."""

import os
import signal
import sys
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from threading import Event
from typing import Annotated

import typer
from rich.console import Console

from audit_service.errors import AuditError, Cancelled
from audit_service.identity.commands import check_log, organisations, tokens, users
from audit_service.importing.commands import app as importing
from audit_service.library.commands import app as library
from audit_service.logs import configure
from audit_service.settings import get_settings

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
app.command("check-log")(check_log)
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
def calibrate(
    audits: Annotated[int, typer.Option(min=20, help="Simulated audits of each world.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of all draws.")] = 0,
) -> None:
    """Simulate audits with known truth: intervals must cover it and tests must keep their level, or this fails."""
    from audit_service.domain.calibration import calibrate as checks  # noqa: PLC0415

    failed = 0
    _say(f"{'':4}{'rate':>6}  {'allowed':14}world, and what is counted over {audits} audits")
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


def _say(line: str) -> None:
    out.print(line, highlight=False, soft_wrap=True)


def main() -> None:
    """Run the command; an error of the user's ends with its remedy, not with a traceback."""
    configure(as_json=os.environ.get("AUDIT_LOG_FORMAT") == "json")
    # Threads that wait by spinning take the processor from the other processes of the machine; read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ask us to leave as Ctrl-C does
    for entry in entry_points(group=COMMANDS):
        app.command(entry.name)(entry.load())
    try:
        app()
    except AuditError as error:
        err.print(f"{error.title}. {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(130 if isinstance(error, Cancelled) else 1)
